use super::*;

mod findings;
mod model;
mod properties;
mod secrets;
mod table;
mod values;

type Vars<'a> = &'a [(&'a str, &'a str)];

fn try_load(vars: Vars<'_>) -> Result<(Config, Vec<Warning>), Problems> {
    load(vars.iter().map(|(name, value)| (name.into(), value.into())))
}

fn loaded(vars: Vars<'_>) -> Config {
    try_load(vars).unwrap_or_else(|problems| panic!("{vars:?}: {problems}")).0
}

/// All rooms' values, without where they came from.
fn shown(config: Config) -> String {
    format!("{:?}", Config { settings: Vec::new(), ..config })
}

fn problems(vars: Vars<'_>) -> Vec<String> {
    let problems = try_load(vars).expect_err(&format!("{vars:?} was taken"));
    problems.problems().iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check_refused(vars: Vars<'_>, expected: &[&str]) {
    let problems = problems(vars);

    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem}\n{expected}");
    }
}

#[track_caller]
fn check_warned(vars: Vars<'_>, expected: &[&str]) {
    let (_, warnings) = try_load(vars).unwrap();

    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), expected.len(), "{vars:?}: {warnings:#?}");
    for (warning, expected) in warnings.iter().zip(expected) {
        assert!(warning.contains(expected), "{warning}\n{expected}");
    }
}
