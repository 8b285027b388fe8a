//! Health checks of TrafficPolicies.

use std::time::Duration;

use portolan_zones::name::check_label;
use portolan_zones::policy::health::{CheckKind, HealthCheck};

use super::{in_range, time_in};
use crate::convert::ConvertError;
use crate::kubernetes::traffic_policy as api;
use crate::probing::probe_of;

/// A question that takes longer keeps others waiting: sockets are bounded.
const LONGEST: Duration = Duration::from_secs(30);
/// Characters of what is asked for or looked for.
const MOST: usize = 1024;

/// What a spec says.
pub(super) fn check(spec: &api::HealthCheck) -> Result<HealthCheck, ConvertError> {
    let port = spec.port.as_deref();
    if let Some(port) = port {
        check_label(port).map_err(|error| ConvertError::name("spec.healthCheck.port", error))?;
    }
    let interval = time("spec.healthCheck.interval", &spec.interval)?;
    let timeout = time("spec.healthCheck.timeout", &spec.timeout)?;
    let check = HealthCheck {
        kind: kind(spec)?,
        port: port.map(Into::into),
        interval,
        timeout: timeout.min(interval).min(LONGEST),
        rise: in_range("spec.healthCheck.rise", spec.rise, 1, 100)?,
        fall: in_range("spec.healthCheck.fall", spec.fall, 1, 100)?,
    };
    // What can't be asked would never be told.
    if probe_of(&check).is_none() {
        let (path, host) = (spec.path.clone(), spec.host.clone().unwrap_or_default());
        return Err(ConvertError::Request { path, host });
    }
    Ok(check)
}

fn kind(spec: &api::HealthCheck) -> Result<CheckKind, ConvertError> {
    let http = |tls| {
        Ok(CheckKind::Http {
            tls,
            path: bounded("spec.healthCheck.path", &spec.path)?.into(),
            host: spec
                .host
                .as_deref()
                .map(|host| bounded("spec.healthCheck.host", host))
                .transpose()?
                .map(Into::into),
            status: statuses(&spec.expected_statuses)?,
            body: spec
                .body
                .as_deref()
                .map(|body| bounded("spec.healthCheck.body", body))
                .transpose()?
                .map(Into::into),
        })
    };
    match spec.kind {
        api::CheckType::TCP => Ok(CheckKind::Tcp),
        api::CheckType::HTTP => http(false),
        api::CheckType::HTTPS => http(true),
        api::CheckType::GRPC => {
            let service = spec.service.as_deref().unwrap_or_default();
            Ok(CheckKind::Grpc {
                tls: spec.tls,
                service: bounded("spec.healthCheck.service", service)?.into(),
            })
        }
    }
}

/// `200` or `200-399`.
fn statuses(text: &str) -> Result<(u16, u16), ConvertError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let code = |text: &str| text.parse::<u16>().ok().filter(|code| (100..600).contains(code));
    match (code(first), code(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => Err(ConvertError::Statuses { value: text.chars().take(20).collect() }),
    }
}

fn bounded<'t>(field: &str, text: &'t str) -> Result<&'t str, ConvertError> {
    let len = text.chars().count();
    let fits = len <= MOST;
    fits.then_some(text).ok_or_else(|| ConvertError::TooLong { field: field.to_owned(), len, most: MOST })
}

fn time(field: &str, text: &str) -> Result<Duration, ConvertError> {
    let allowed = Duration::from_secs(1)..=Duration::from_secs(86_400);
    let such = "10s or 1m, from a second to a day";
    time_in(field, text, allowed, such)
}

/// A health check as a spec again.
pub(super) fn spec(check: &HealthCheck) -> api::HealthCheck {
    let seconds = |time: Duration| format!("{}s", time.as_secs());
    let plain = api::HealthCheck {
        kind: api::CheckType::TCP,
        port: check.port.as_deref().map(str::to_owned),
        path: "/".to_owned(),
        host: None,
        expected_statuses: "200-399".to_owned(),
        body: None,
        service: None,
        tls: false,
        interval: seconds(check.interval),
        timeout: seconds(check.timeout),
        rise: check.rise.into(),
        fall: check.fall.into(),
    };
    match &check.kind {
        CheckKind::Tcp => plain,
        CheckKind::Http { tls, path, host, status: (first, last), body } => api::HealthCheck {
            kind: if *tls { api::CheckType::HTTPS } else { api::CheckType::HTTP },
            path: path.to_string(),
            host: host.as_deref().map(str::to_owned),
            expected_statuses: format!("{first}-{last}"),
            body: body.as_deref().map(str::to_owned),
            ..plain
        },
        CheckKind::Grpc { tls, service } => api::HealthCheck {
            kind: api::CheckType::GRPC,
            service: Some(service.to_string()),
            tls: *tls,
            ..plain
        },
    }
}
