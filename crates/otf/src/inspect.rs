//! `otf inspect`: coverage and precision of one compartment.

use std::fs;

use otf_artifact::sites::Sites;
use serde_json::Value;

use crate::{
    cli::{Format, Inspect},
    files, pipeline,
    render::{self, Failure},
};

/// Prints the figures of `DIR/sites.json` and the size of the bundle beside it.
pub fn inspect(args: &Inspect, format: Format) -> Result<(), Failure> {
    let sites: Sites = files::read_artifact(&args.dir.join("sites.json"))?;
    let bundle = pipeline::bundle_path(&args.dir, &sites.analysis.compartment);
    let made = files::bundle_of(&args.dir, &sites.analysis.compartment)?;
    let bytes = fs::metadata(&bundle).map_or(0, |m| m.len());
    let lock = files::read_lock(&args.dir.join("kernel.lock.yaml"))?;
    let cache = files::cache()?;
    // Where the ELF files lie on this machine, so that others can count in the same files.
    let images = lock
        .modules
        .iter()
        .chain([&lock.vmlinux])
        .map(|i| {
            (
                i.name.clone(),
                cache.join(&i.file.path).display().to_string(),
            )
        })
        .collect();
    let value = otf_policygen::inspect(&sites, &images, made.as_ref(), bytes);
    match format {
        Format::Json => render::line(&format!("{value:#}")),
        Format::Text => {
            let mut fields = value.as_object().into_iter().flatten();
            fields.try_for_each(|(key, value)| text(key, value, 0))
        }
    }
}

fn text(key: &str, value: &Value, depth: usize) -> Result<(), Failure> {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            render::line(&format!("{indent}{key}:"))?;
            map.iter()
                .try_for_each(|(key, value)| text(key, value, depth + 1))
        }
        Value::Array(rows) => {
            render::line(&format!("{indent}{key}: {}", rows.len()))?;
            rows.iter().try_for_each(|row| {
                let words = match row {
                    Value::Object(map) => map.values().map(plain).collect::<Vec<_>>().join("  "),
                    other => plain(other),
                };
                render::line(&format!("{indent}  {words}"))
            })
        }
        other => render::line(&format!("{indent}{key}: {}", plain(other))),
    }
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}
