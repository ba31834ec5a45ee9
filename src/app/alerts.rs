//! Tells others where a result is bad. That they cannot be told is a warning, and changes no exit code.

use serde_json::Value;

use super::Streams;
use crate::backend::{self, Delivery, Destination, Network, Verb};
use crate::plan::AlertsTo;
use crate::report::Alert;

/// Where Alertmanager takes alerts.
const ALERTS_PATH: &str = "/api/v2/alerts";

/// Sends the alert, if there is one, once to each who wants it.
pub(super) fn send(to: &AlertsTo, alert: Option<Alert>, streams: &mut Streams<'_>) {
    let Some(alert) = alert else { return };
    if let Some((webhook, network)) = &to.webhook {
        post(Ok(webhook.clone()), webhook, network, &alert.webhook(), streams);
    }
    if let Some((manager, network)) = &to.alertmanager {
        post(manager.join(ALERTS_PATH), manager, network, &alert.alertmanager(), streams);
    }
}

/// `shown` without its path: that of a web hook is often a secret.
fn post(
    to: Result<Destination, String>,
    shown: &Destination,
    network: &Network,
    message: &Value,
    streams: &mut Streams<'_>,
) {
    let body = message.to_string();
    let sent = to.and_then(|to| {
        let delivery = Delivery { verb: Verb::Post, content_type: "application/json", body: body.as_bytes() };
        backend::deliver(&to, network, &delivery)
    });
    match sent {
        Ok(()) => streams.remark(format_args!("alert sent to {}", shown.origin())),
        Err(why) => {
            streams.remark(format_args!("warning: no alert could be sent to {}: {why}", shown.origin()))
        }
    }
}
