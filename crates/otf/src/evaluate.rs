//! `otf eval-report`: what `make eval-analysis` has measured, as JSON and as Markdown.

use std::path::Path;

use otf_artifact::{
    analysis::Analysis,
    diagnostic::{Code, Diagnostic},
    recording::Recording,
    sites::Sites,
};
use otf_evaluation::{
    Judgement,
    report::{self, Case},
};

use crate::{
    cli, files,
    render::{self, Failure},
};

/// Reads what there is of each case, and writes both reports. What is missing has a reason in them.
pub fn report(args: &cli::EvalReport) -> Result<(), Failure> {
    let introduction = text(&args.introduction).ok_or_else(|| {
        Diagnostic::error(
            Code::Environment,
            "the introduction of the report is missing",
        )
        .at(args.introduction.display().to_string(), 0, 0)
    })?;
    let mut cases = Vec::new();
    for name in &args.cases {
        cases.push(case(args, name)?);
    }
    let entries: Vec<_> = cases.iter().map(Case::entry).collect();
    let json = serde_json::to_string_pretty(&entries)
        .map_err(|e| Diagnostic::error(Code::InvariantBroken, format!("cannot be written: {e}")))?;
    files::write(&args.json, format!("{json}\n").as_bytes())?;
    let markdown = report::render(&introduction, &cases);
    files::write(&args.markdown, markdown.as_bytes())?;
    render::line(&args.json.display().to_string())?;
    render::line(&args.markdown.display().to_string())
}

/// `KERNEL/COMPARTMENT=RUN`: the compartment, and the one whose run in the machine was recorded.
fn case(args: &cli::EvalReport, name: &str) -> Result<Case, Failure> {
    let parts = name
        .split_once('=')
        .and_then(|(whole, run)| Some((whole.split_once('/')?, run)));
    let Some(((kernel, compartment), run)) = parts else {
        let message = format!("`{name}` is not KERNEL/COMPARTMENT=RUN");
        return Err(Diagnostic::error(Code::Usage, message).into());
    };
    tracing::info!(kernel, compartment, "report");
    let folder = args.out.join(kernel).join(compartment);
    let runs = args.runs.join(kernel);
    let failed = |step: &str| text(&runs.join(format!("{step}.failed")));
    let recorded = runs.join(run);
    let mut case = Case {
        kernel: kernel.to_owned(),
        compartment: compartment.to_owned(),
        figures: Err("not analyzed".to_owned()),
        judgement: Err("not recorded".to_owned()),
        recorded_as: run.to_owned(),
        tasks: Vec::new(),
        timing: Vec::new(),
        allocinfo: None,
    };
    if let Some(why) = failed(&format!("{compartment}.analyze")) {
        case.figures = Err(why.trim().to_owned());
        return Ok(case);
    }
    let path = folder.join("sites.json");
    if !path.is_file() {
        return Ok(case);
    }
    let sites: Sites = files::read_artifact(&path)?;
    case.figures = Ok(report::figures(&sites));
    if let Some(tags) = text(&recorded.join("allocinfo.txt")) {
        // What is confined stands in the source's analysis alone.
        let source: Analysis = files::read_artifact(&folder.join("analysis.json"))?;
        let tags = report::parse_allocinfo(&tags);
        case.allocinfo = Some(report::compare(&tags, &source));
    }
    if let Some(why) = failed(&format!("{run}.record")) {
        case.judgement = Err(why.trim().to_owned());
    } else if recorded.join("recording.json").is_file() {
        case.judgement = Ok(judgement(&recorded, &path, &sites)?);
    }
    if compartment == run {
        let expected = args.expected.join(kernel).join(format!("{run}.tsv"));
        let results = text(&recorded.join("results.tsv")).unwrap_or_default();
        case.tasks = report::tasks(&results, text(&expected).as_deref());
        case.timing = text(&recorded.join("timing.txt"))
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(part, seconds)| (part.to_owned(), seconds.to_owned()))
            .collect();
    }
    Ok(case)
}

/// Judges by the sites at hand, also when the recording was made with other ones, which lie beside it: those of a larger
/// compartment, or of an earlier analysis.
fn judgement(recorded: &Path, path: &Path, sites: &Sites) -> Result<Judgement, Failure> {
    let recording: Recording = files::read_artifact(&recorded.join("recording.json"))?;
    let hash = otf_bundle::sha256(&files::read(path)?);
    if recording.sites == hash {
        return Ok(otf_evaluation::judge(sites, &[recording]));
    }
    let from = recorded.join("recorded-sites.json");
    if otf_bundle::sha256(&files::read(&from)?) != recording.sites {
        let message = "the recording was made with other sites than those beside it";
        return Err(Diagnostic::error(Code::BadArtifact, message)
            .at(from.display().to_string(), 0, 0)
            .help("record again")
            .into());
    }
    let from: Sites = files::read_artifact(&from)?;
    Ok(report::judge_part(&recording, &from, sites, hash))
}

/// A text file, if it is there.
pub(crate) fn text(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}
