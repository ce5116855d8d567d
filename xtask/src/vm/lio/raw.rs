//! A raw initiator against LIO: which steps keep a stuck write from overwriting what comes later?

use std::time::Duration;

use anyhow::{Context, Result};

use super::guest::{Case, Seen, Verdict};
use super::target::{FIRST_GROUP, Lio, SECOND_GROUP, TARGET, switch_of};
use crate::harness::process::run;

/// The longest case waits for 8 s; emulation on a busy machine adds some.
const LIMIT: Duration = Duration::from_secs(90);

/// Name, steps as the example `fences` takes them, and what they lead to.
fn table() -> Vec<(&'static str, Vec<String>, Verdict)> {
    use Verdict::{Corrupt, Kept};
    let [first, second] = FIRST_GROUP;
    let switch = switch_of(1);
    let steps = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let command = |command: String| vec![format!("run={command}")];
    let off_and_on = command(format!("echo 0 >{switch}; echo 1 >{switch}"));
    // The command that closes a group returns when the group's commands have ended.
    let off = command(format!("(echo 0 >{switch}; echo 1 >{switch}) & sleep 1"));
    let by_two_portals = format!("portal={second} abandon=500 portal={first} login reset");
    let abandoned_and_off = [steps("abandon=500"), off_and_on, steps("login reset")].concat();
    let by_the_other =
        [steps("for=5000"), off, steps(&format!("portal={SECOND_GROUP} fresh reset"))].concat();
    vec![
        ("no fence", steps("fresh"), Corrupt),
        ("reinstatement", steps("login"), Kept),
        ("reset, at once", steps("fresh reset"), Kept),
        ("reset, 4 s later", steps("for=5500 wait=4000 fresh reset"), Corrupt),
        ("reinstatement and reset", steps("login reset"), Kept),
        ("the same, the old connection left open", steps("lose=keep login reset"), Kept),
        ("the same, 4 s later", steps("for=5500 wait=4000 login reset"), Kept),
        ("first login abandoned", steps("abandon=500 login reset"), Kept),
        ("the same, by two portals", steps(&by_two_portals), Kept),
        ("the same, 4 s later", steps("for=5500 wait=4000 abandon=500 login reset"), Kept),
        ("the same, the group closed and opened", abandoned_and_off, Kept),
        ("command aborted before the loss", steps("lose=abort login reset"), Kept),
        ("session logged out", steps("lose=logout login reset"), Corrupt),
        ("group closed, reset by the other", by_the_other, Corrupt),
    ]
}

pub(super) fn cases() -> Vec<Case> {
    let case = |(name, steps, expected): (&str, Vec<String>, Verdict)| {
        let in_short = steps.iter().filter(|step| !step.starts_with("portal="));
        let in_short = in_short.map(|step| if step.starts_with("run=") { "run" } else { step });
        let mode = in_short.collect::<Vec<_>>().join(" ");
        let is_in_two = steps.iter().any(|step| step.contains(SECOND_GROUP));
        let target = if is_in_two { "two groups" } else { "one group" };
        Case {
            name: format!("raw: {name}"),
            mode,
            target,
            expected,
            run: Box::new(move |lio| fences(lio, &steps)),
        }
    };
    table().into_iter().map(case).collect()
}

fn fences(lio: &Lio, steps: &[String]) -> Result<Seen> {
    let mut arguments = vec![FIRST_GROUP[0].to_owned(), TARGET.to_owned()];
    arguments.extend_from_slice(steps);
    let said = run(lio.example("fences"), arguments, LIMIT)?.good()?.stdout;
    let mut steps: Vec<String> = said.lines().map(str::to_owned).collect();
    let verdict = match steps.pop().as_deref() {
        Some("kept") => Verdict::Kept,
        Some("corrupt") => Verdict::Corrupt,
        other => anyhow::bail!("fences ended with {other:?}"),
    };
    // The first login is that of the session that is lost.
    let answers = steps.iter().skip(1).filter_map(|step| answer(step));
    let summary = answers.take(2).collect::<Vec<_>>().join(", ");
    Ok(Seen { verdict, summary, steps })
}

/// `login 2.706s` of the line that says so.
fn answer(step: &str) -> Option<String> {
    let what = if step.contains("LOGICAL UNIT RESET") { "reset" } else { "login" };
    let (_, took) = step.split_once(" after ").filter(|_| step.contains("answered"))?;
    let took = took.split(':').next().context("a time stands before the colon").ok()?;
    Some(format!("{what} {took}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_answer_is_found() {
        let login = "   3.044 s  127.0.0.1:3260 answered a login after 2.706s: TSIH 5";
        assert_eq!(answer(login).unwrap(), "login 2.706s");
        assert_eq!(
            answer("   3.0 s  LOGICAL UNIT RESET answered after 4.1ms: Answered(Complete)").unwrap(),
            "reset 4.1ms"
        );
        assert_eq!(answer("   0.3 s  block 0 written: Good after 15.360ms"), None);
    }

    #[test]
    fn a_command_is_not_part_of_a_mode() {
        let modes: Vec<String> = cases().into_iter().map(|case| case.mode).collect();
        assert!(modes.contains(&"abandon=500 run login reset".to_owned()), "{modes:?}");
    }
}
