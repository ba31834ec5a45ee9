//! The files that are to be written: where, and that none replaces another.

use std::path::PathBuf;

use super::Findings;
use crate::error::Mistake;
use crate::plan::draft::{Draft, Given};
use crate::plan::{AlertsTo, Csv, Outputs, Route, SuiteKind, defaults, resolved};

impl Draft {
    pub(super) fn outputs(&self, kind: SuiteKind, found: &mut Findings) -> Outputs {
        let folder = self.output_dir.as_ref().map(|dir| dir.value.clone());
        let save = self.save || folder.is_some();
        if kind != SuiteKind::Single {
            self.files_of_one_run(found);
        }
        if let (Some(csv), true) = (&self.csv, self.no_csv) {
            found.add(Mistake::new(format!("{} and --no-csv", csv.origin), "give one of them"));
        }
        if let (Some(file), None) = (&self.schedule_out, self.shapes().next()) {
            let problem = "a closed loop has no schedule; give --request-rate, --ramp-up or --stages";
            found.add(file.mistake(file.value.display(), problem));
        }
        self.responses(kind, save, found);
        let files = [
            &self.output,
            &self.csv,
            &self.schedule_out,
            &self.record_log,
            &self.vllm_json,
            &self.junit,
            &self.html,
            &self.markdown,
            &self.prom_out,
        ];
        let files: Vec<_> = files.into_iter().flatten().collect();
        let places: Vec<_> = files.iter().map(|file| resolved(&file.value)).collect();
        for (number, file) in files.iter().enumerate() {
            let earlier = files[..number].iter().zip(&places);
            for (other, _) in earlier.filter(|(_, place)| **place == places[number]) {
                let place = format!("{} and {} '{}'", other.origin, file.origin, file.value.display());
                found.add(Mistake::new(place, "name two files; one would replace the other"));
            }
        }
        for (file, place) in files.iter().zip(&places) {
            let inputs = self.inputs.iter().chain(self.network.files());
            if let Some(input) = inputs.into_iter().find(|input| resolved(&input.value) == *place) {
                let problem = format!("is read as {}; name another file", input.origin);
                found.add(file.mistake(file.value.display(), problem));
            }
        }
        for path in files.into_iter().chain(&self.output_dir) {
            if path.value.as_os_str().is_empty() {
                found.add(path.mistake("", "name a file or folder"));
            }
        }
        let folder = folder.unwrap_or_else(|| PathBuf::from(defaults::OUTPUT_DIR));
        let wants_csv = !self.no_csv && (kind == SuiteKind::Scenarios || (save && kind != SuiteKind::Single));
        let csv = match &self.csv {
            Some(file) => Some(Csv::File(file.value.clone())),
            None => wants_csv.then(|| Csv::Folder(folder.clone())),
        };
        let path = |given: &Option<Given<PathBuf>>| given.as_ref().map(|given| given.value.clone());
        Outputs {
            save_to: save.then_some(folder),
            json: path(&self.output),
            csv,
            vllm: path(&self.vllm_json),
            html: path(&self.html),
            markdown: path(&self.markdown),
            metrics_listen: self.metrics_listen.as_ref().map(|address| address.value),
            prometheus: path(&self.prom_out),
            pushgateway: self.route(&self.pushgateway, found),
            alerts: self.alerts(found),
            record_log: path(&self.record_log),
            schedule: path(&self.schedule_out),
            junit: path(&self.junit),
            detail: !self.no_detail,
            overwrite: self.overwrite,
        }
    }

    /// Who is told of what is bad, as far as they can be reached.
    pub fn alerts_to(&self) -> AlertsTo {
        self.alerts(&mut Findings::default())
    }

    fn alerts(&self, found: &mut Findings) -> AlertsTo {
        AlertsTo {
            webhook: self.route(&self.alert_webhook, found),
            alertmanager: self.route(&self.alertmanager, found),
        }
    }

    fn route(&self, url: &Option<Given<String>>, found: &mut Findings) -> Option<Route> {
        let mut mistakes = Vec::new();
        let route = self.network.route(url.as_ref()?, &mut mistakes);
        mistakes.into_iter().for_each(|mistake| found.add(mistake));
        route
    }

    /// What the model says needs a file with the single requests.
    fn responses(&self, kind: SuiteKind, save: bool, found: &mut Findings) {
        let Some(given) = self.save_responses.as_ref().filter(|given| given.value) else { return };
        if self.record_log.is_some() || (!self.no_detail && (save || self.output.is_some())) {
            return;
        }
        let advice = match kind {
            SuiteKind::Single => "give --record-log FILE, or --save or --output FILE without --no-detail",
            _ => "give --save without --no-detail",
        };
        found.add(Mistake::new(given.origin.to_string(), format!("no file would hold them; {advice}")));
    }

    /// Files that can hold one run and no more, where several are to be made.
    fn files_of_one_run(&self, found: &mut Findings) {
        for (file, advice) in [
            (&self.output, "use --output-dir DIR"),
            (&self.record_log, "--save keeps a log of each"),
            (&self.schedule_out, "leave it out, or make one run"),
            (&self.vllm_json, "save them, and use report FILE --vllm-json"),
        ] {
            if let Some(file) = file {
                let problem = format!("names one file, and this makes several runs; {advice}");
                found.add(file.mistake(file.value.display(), problem));
            }
        }
    }
}
