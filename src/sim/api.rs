//! The routes of the simulated server and what each answers.

use std::io;

use serde_json::json;

use super::answer::{Line, Model, answer};
use super::ask::{Ask, Dialect, MAX_MODEL_LEN, count_tokens};
use super::events::FINGERPRINT;
use super::http::Head;
use super::refusal::Refusal;
use super::reply::Reply;
use crate::clock::{Date, Moment};

/// What the server can be asked.
#[derive(Clone, Copy)]
enum Route {
    Generate(Dialect),
    Tokenize,
    Models,
    Health,
    Version,
    Metrics,
}

impl Route {
    fn find(path: &str) -> Option<Self> {
        Some(match path {
            "/v1/chat/completions" => Self::Generate(Dialect::Chat),
            "/v1/completions" => Self::Generate(Dialect::Completions),
            "/tokenize" => Self::Tokenize,
            "/v1/models" => Self::Models,
            "/health" => Self::Health,
            "/version" => Self::Version,
            "/metrics" => Self::Metrics,
            _ => return None,
        })
    }

    fn method(self) -> &'static str {
        match self {
            Self::Generate(_) | Self::Tokenize => "POST",
            Self::Models | Self::Health | Self::Version | Self::Metrics => "GET",
        }
    }
}

/// Answers a request that came in whole at `received`.
///
/// # Errors
/// When the client went away or the connection was cut.
pub fn respond(model: &Model, head: Head, body: &[u8], received: Moment, line: &Line<'_>) -> io::Result<()> {
    let route = match find(model, &head) {
        Ok(route) => route,
        // no route takes HEAD, so this is where it ends up
        Err(no) if head.method == "HEAD" => return line.reply_head(&no),
        Err(no) => return line.reply(&no),
    };
    let Route::Generate(dialect) = route else {
        return line.reply(&plain(model, route, &head, body));
    };
    let asked = json_only(&head).and_then(|()| Ask::read(dialect, body, &model.behavior.model));
    match asked {
        Ok(ask) => answer(model, ask, head.request_id, received, line),
        Err(refusal) => line.reply(&refused(&refusal)),
    }
}

/// The reply to whoever asks amiss, in vLLM's shape.
pub fn refused(refusal: &Refusal) -> Reply {
    Reply::json(refusal.status, refusal.json())
}

/// The route, if there is one and the client may use it. The key guards `/v1/` only, whatever is behind it.
fn find(model: &Model, head: &Head) -> Result<Route, Reply> {
    if let Some(key) = &model.behavior.api_key
        && head.path.starts_with("/v1/")
        && head.authorization.as_deref().and_then(|value| value.strip_prefix("Bearer ")) != Some(key)
    {
        return Err(Reply::json(401, r#"{"error":"Unauthorized"}"#));
    }
    let Some(route) = Route::find(&head.path) else {
        return Err(Reply::json(404, r#"{"detail":"Not Found"}"#));
    };
    if head.method == route.method() {
        return Ok(route);
    }
    let mut reply = Reply::json(405, r#"{"detail":"Method Not Allowed"}"#);
    reply.header = Some(("allow", route.method()));
    Err(reply)
}

/// All but the generation of text.
fn plain(model: &Model, route: Route, head: &Head, body: &[u8]) -> Reply {
    match route {
        Route::Tokenize => match json_only(head).and_then(|()| count_tokens(body, &model.behavior.model)) {
            Ok(count) => tokens(count),
            Err(refusal) => refused(&refusal),
        },
        Route::Models => models(&model.behavior.model),
        Route::Version => Reply::json(200, json!({ "version": FINGERPRINT }).to_string()),
        Route::Metrics => Reply {
            status: 200,
            content_type: Some("text/plain; version=1.0.0; charset=utf-8"),
            body: model.metrics.render(&model.behavior.model, &model.capacity).into_bytes(),
            ..Reply::default()
        },
        Route::Health | Route::Generate(_) => Reply { status: 200, ..Reply::default() },
    }
}

fn json_only(head: &Head) -> Result<(), Refusal> {
    if head.json { Ok(()) } else { Err(Refusal::not_json()) }
}

/// Tokens are counted, not made: their ids are 0, 1, 2 and so on.
fn tokens(count: u64) -> Reply {
    let ids = json!((0..count).collect::<Vec<_>>());
    let body =
        format!(r#"{{"count":{count},"max_model_len":{MAX_MODEL_LEN},"tokens":{ids},"token_strs":null}}"#);
    Reply::json(200, body)
}

fn models(name: &str) -> Reply {
    let created = Date::now().unix_seconds() as u64;
    let name = json!(name);
    Reply::json(
        200,
        format!(
            r#"{{"object":"list","data":[{{"id":{name},"object":"model","created":{created},"owned_by":"vllm","root":{name},"parent":null,"max_model_len":{MAX_MODEL_LEN},"permission":[{{"id":"modelperm-0000000000000000","object":"model_permission","created":{created},"allow_create_engine":false,"allow_sampling":true,"allow_logprobs":true,"allow_search_indices":false,"allow_view":true,"allow_fine_tuning":false,"organization":"*","group":null,"is_blocking":false}}]}}]}}"#
        ),
    )
}
