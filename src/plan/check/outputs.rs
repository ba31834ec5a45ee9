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
        if let (Some(output), true) = (&self.output, kind != SuiteKind::Single) {
            let problem = "names one file, and this makes several runs; use --output-dir DIR";
            found.add(output.mistake(output.value.display(), problem));
        }
        if let (Some(csv), true) = (&self.csv, self.no_csv) {
            found.add(Mistake::new(format!("{} and --no-csv", csv.origin), "give one of them"));
        }
        if let (Some(log), true) = (&self.record_log, kind != SuiteKind::Single) {
            let problem = "names one file, and this makes several runs; --save keeps a log of each";
            found.add(log.mistake(log.value.display(), problem));
        }
        self.schedule_out(kind, found);
        if let (Some(vllm), true) = (&self.vllm_json, kind != SuiteKind::Single) {
            let problem =
                "names one file, and this makes several runs; save them, and use report FILE --vllm-json";
            found.add(vllm.mistake(vllm.value.display(), problem));
        }
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
        Outputs {
            save_to: save.then_some(folder),
            json: self.output.as_ref().map(|path| path.value.clone()),
            csv,
            vllm: self.vllm_json.as_ref().map(|path| path.value.clone()),
            html: self.html.as_ref().map(|path| path.value.clone()),
            markdown: self.markdown.as_ref().map(|path| path.value.clone()),
            metrics_listen: self.metrics_listen.as_ref().map(|address| address.value),
            prometheus: self.prom_out.as_ref().map(|path| path.value.clone()),
            pushgateway: self.route(&self.pushgateway, found),
            alerts: self.alerts(found),
            record_log: self.record_log.as_ref().map(|path| path.value.clone()),
            schedule: self.schedule_out.as_ref().map(|path| path.value.clone()),
            junit: self.junit.as_ref().map(|path| path.value.clone()),
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

    fn schedule_out(&self, kind: SuiteKind, found: &mut Findings) {
        let Some(file) = &self.schedule_out else { return };
        if kind != SuiteKind::Single {
            let problem = "names one file, and this makes several runs; leave it out, or make one run";
            found.add(file.mistake(file.value.display(), problem));
        }
        if self.shapes().next().is_none() {
            let problem = "a closed loop has no schedule; give --request-rate, --ramp-up or --stages";
            found.add(file.mistake(file.value.display(), problem));
        }
    }
}
