//! Asymmetric access states of LIO, changed in every way that it has while a verifying client works on smpath's disk.
//!
//! Each portal group of the target is a target port group of its own. What smpath believes is read from its JSON; which
//! path it takes, from LIO's own counters. The client must see no error while a path is usable.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::guest::{Case, Seen, Verdict};
use super::target::{AccessType, FIRST_GROUP, Lio, PortGroup, SECOND_GROUP, State, TARGET};
use crate::harness::process::{Process, wait_until};
use crate::harness::random::Random;
use crate::harness::room::Room;
use crate::harness::smpath::{self, Disk, Route};

/// For starting and ending.
const LIMIT: Duration = Duration::from_secs(60);

/// After a unit attention or a refused command a change is known within a second; the programs that ask are emulated.
const SOON: Duration = Duration::from_secs(2);

/// While no path is usable, the target is asked every two seconds.
const WITHOUT_PATH: Duration = Duration::from_secs(4);

/// Paths that nothing comes over are asked at this pace in these cases: LIO tells a change to nobody but who comes through
/// the group that has changed.
const PATH_CHECK: &str = "1s";
const IDLE: Duration = Duration::from_secs(4);

/// A port that refuses what its group promises is not believed for so long, and then asked at that pace.
const LIE: Duration = Duration::from_secs(15);

/// So long the client works before it is looked at which path it takes.
const LOOK: Duration = Duration::from_millis(500);

/// Commands in that time which are ours, not the client's: questions about the state, and the check of idle paths.
const QUESTIONS: u64 = 8;

const FIRST: PortGroup = PortGroup { name: "first", number: 1, portal: FIRST_GROUP[0] };
const SECOND: PortGroup = PortGroup { name: "second", number: 2, portal: SECOND_GROUP };

/// What happens, with which options of smpath, and what LIO lets its initiators do.
struct Story {
    name: &'static str,
    options: &'static [&'static str],
    access: AccessType,
    tell: fn(&mut Stand) -> Result<String>,
}

impl Story {
    const fn new(name: &'static str, tell: fn(&mut Stand) -> Result<String>) -> Self {
        Self { name, options: &[], access: AccessType::Both, tell }
    }

    const fn explicit(name: &'static str, tell: fn(&mut Stand) -> Result<String>) -> Self {
        Self { options: &["--alua", "explicit"], ..Self::new(name, tell) }
    }
}

fn stories() -> Vec<Story> {
    vec![
        Story::new("optimized and non-optimized change places", change_places),
        Story::new("standby, and back", |stand| lose_and_regain(stand, State::Standby)),
        Story::new("unavailable, and back", |stand| lose_and_regain(stand, State::Unavailable)),
        Story::new("in transition, and back", |stand| lose_and_regain(stand, State::Transitioning)),
        Story::new("a port offline, and back", take_offline),
        Story::new("a transition that takes its time", change_slowly),
        Story::new("all unavailable, then one returns", |stand| lose_all(stand, State::Unavailable)),
        Story::new("all in transition, then one returns", |stand| lose_all(stand, State::Transitioning)),
        Story::new("the preferred group", prefer),
        Story::new("states that change all the time", flap),
        Story::explicit("a group in standby is activated", activate_standby),
        Story::explicit("a group not optimized is activated", activate_non_optimized),
        Story {
            access: AccessType::Implicit,
            ..Story::explicit("nothing is activated that LIO would refuse", never_activated)
        },
        Story::new("nothing is activated unless asked for", never_activated),
    ]
}

pub(super) fn cases() -> Vec<Case> {
    let case = |story: Story| Case {
        name: format!("alua: {}", story.name),
        mode: if story.options.is_empty() { "default".to_owned() } else { story.options.join(" ") },
        target: "two groups",
        expected: Verdict::Passed,
        run: Box::new(move |lio| play(lio, &story)),
    };
    stories().into_iter().map(case).collect()
}

fn play(lio: &Lio, story: &Story) -> Result<Seen> {
    lio.make_port_groups(&[FIRST, SECOND])?;
    for group in [FIRST, SECOND] {
        group.reset()?;
        group.allow(story.access)?;
    }
    SECOND.change_to(State::NonOptimized)?;
    let mut stand = Stand::new(story.options)?;
    let outcome = (story.tell)(&mut stand);
    for group in [FIRST, SECOND] {
        group.reset()?;
    }
    let said = outcome.with_context(|| stand.log())?;
    let (load, steps) = stand.end()?;
    Ok(Seen { verdict: Verdict::Passed, summary: format!("{said}; {load}"), steps })
}

/// smpath over a path to each group, and a client.
struct Stand {
    disk: Disk,
    load: Process,
    _room: Room,
    started: Instant,
    steps: Vec<String>,
}

impl Stand {
    fn new(options: &[&str]) -> Result<Self> {
        let room = Room::new()?;
        let mut arguments: Vec<String> = options.iter().map(|&word| word.to_owned()).collect();
        // Access states alone decide which path is taken: an emulated one may look slow at any time.
        let fixed = ["--path-check", PATH_CHECK, "--slow-paths", "ignore"];
        arguments.extend(fixed.map(str::to_owned));
        for group in [FIRST, SECOND] {
            let route = Route { portal: group.portal.parse()?, target: TARGET.to_owned(), lun: 0 };
            arguments.push(route.url());
        }
        let disk = Disk::launch(&room, &arguments)?;
        wait_until(LIMIT, "disk with two usable paths", || {
            let show = disk.ask(&["show"]).ok()?;
            [FIRST, SECOND].iter().all(|group| is_usable(&show, group)).then_some(())
        })
        .with_context(|| disk.log())?;
        let load = Process::start(smpath::binary()?, ["check", "--overwrite", "--json", &disk.uri])?;
        let mut stand = Self { disk, load, _room: room, started: Instant::now(), steps: Vec::new() };
        stand.takes(&FIRST)?;
        Ok(stand)
    }

    /// Waits until smpath shows something of itself; how long that took.
    fn shows(&mut self, what: &str, limit: Duration, is_so: impl Fn(&Value) -> bool) -> Result<Duration> {
        let started = Instant::now();
        let shown = wait_until(limit, what, || {
            let show = self.disk.ask(&["show"]).ok()?;
            is_so(&show).then_some(())
        });
        let took = started.elapsed();
        self.step(&format!("{what}: shown after {took:.1?}"));
        shown.map(|()| took)
    }

    fn shows_access(&mut self, group: &PortGroup, access: State, limit: Duration) -> Result<Duration> {
        let what = format!("{} {access}", group.name);
        self.shows(&what, limit, |show| {
            let path = path_to(show, group);
            path["access"] == access.to_string() && is_usable(show, group) == access.is_usable()
        })
    }

    /// The client works, over this group alone.
    fn takes(&mut self, group: &PortGroup) -> Result<()> {
        let other = if group.number == FIRST.number { SECOND } else { FIRST };
        let end = Instant::now() + IDLE;
        loop {
            let before = (group.commands()?, other.commands()?);
            thread::sleep(LOOK);
            let carried = (group.commands()? - before.0, other.commands()? - before.1);
            if carried.0 > QUESTIONS && carried.1 <= QUESTIONS {
                self.step(&format!("the client works over {}: {carried:?} commands", group.name));
                return Ok(());
            }
            self.load.ensure_alive()?;
            ensure!(Instant::now() < end, "commands over {} and the other group: {carried:?}", group.name);
        }
    }

    /// Events of a kind so far.
    fn count(&self, code: &str) -> Result<usize> {
        let control = self.disk.control.display().to_string();
        let said = smpath::smpath(&["events", "--json", "--control", &control], LIMIT)?.good()?.stdout;
        let events = said.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
        Ok(events.iter().filter(|event| event["code"] == code).count())
    }

    /// Ends the client, which reads everything back, and then the disk. What the client says, and all steps.
    fn end(mut self) -> Result<(String, Vec<String>)> {
        self.load.signal(Signal::INT)?;
        let status = self.load.wait(LIMIT)?;
        let said = self.load.stdout();
        let load: Value = said
            .lines()
            .last()
            .and_then(|line| serde_json::from_str(line).ok())
            .with_context(|| format!("the client ended with {status}: {}", self.load.output()))?;
        let count = |name: &str| load[name].as_u64().unwrap_or(u64::MAX);
        ensure!(
            status.success() && count("errors") == 0 && count("mismatches") == 0,
            "the client: {load}\n{}\n{}",
            self.load.stderr(),
            self.log()
        );
        let log: Vec<String> = self.disk.log().lines().map(|line| format!("smpath: {line}")).collect();
        self.disk.stop()?;
        let pause = load["longest_pause_ms"].as_f64().unwrap_or_default() / 1e3;
        let said = format!("{} requests, {pause:.1} s at most without one", count("requests"));
        Ok((said, [self.steps, log].concat()))
    }

    fn log(&self) -> String {
        format!("{}\n{}", self.steps.join("\n"), self.disk.log())
    }

    fn step(&mut self, what: &str) {
        self.steps.push(format!("{:8.3} s  {what}", self.started.elapsed().as_secs_f32()));
    }

    fn change(&mut self, group: &PortGroup, state: State) -> Result<()> {
        self.step(&format!("{} becomes {state}", group.name));
        group.change_to(state)
    }
}

fn path_to<'a>(show: &'a Value, group: &PortGroup) -> &'a Value {
    let paths = show["paths"].as_array().map_or(&[][..], Vec::as_slice);
    paths.iter().find(|path| path["portal"] == group.portal).unwrap_or(&Value::Null)
}

fn is_usable(show: &Value, group: &PortGroup) -> bool {
    path_to(show, group)["state"].as_str().is_some_and(|state| state.contains("optimized"))
}

fn are_parked(show: &Value) -> bool {
    show["parked"].as_u64().is_some_and(|parked| parked > 0)
}

/// The better path is told of both changes by the unit attention of its own.
fn change_places(stand: &mut Stand) -> Result<String> {
    let mut longest = Duration::ZERO;
    for (better, worse) in [(SECOND, FIRST), (FIRST, SECOND)] {
        stand.change(&better, State::Optimized)?;
        stand.change(&worse, State::NonOptimized)?;
        longest = longest.max(stand.shows_access(&worse, State::NonOptimized, SOON)?);
        longest = longest.max(stand.shows_access(&better, State::Optimized, SOON)?);
        stand.takes(&better)?;
    }
    Ok(format!("known after {longest:.1?}"))
}

fn lose_and_regain(stand: &mut Stand, state: State) -> Result<String> {
    stand.change(&FIRST, state)?;
    let lost = stand.shows_access(&FIRST, state, SOON)?;
    stand.takes(&SECOND)?;
    stand.change(&FIRST, State::Optimized)?;
    let back = stand.shows_access(&FIRST, State::Optimized, IDLE)?;
    stand.takes(&FIRST)?;
    Ok(format!("known after {lost:.1?}, back after {back:.1?}"))
}

/// Offline is a state of the port, which refuses everything; its group does not tell.
fn take_offline(stand: &mut Stand) -> Result<String> {
    FIRST.set_offline(true)?;
    stand.step("the first port is offline");
    let lost = stand.shows("first not usable", SOON, |show| !is_usable(show, &FIRST))?;
    thread::sleep(SOON);
    stand.takes(&SECOND)?;
    FIRST.set_offline(false)?;
    stand.step("the first port is online");
    let back = stand.shows_access(&FIRST, State::Optimized, LIE)?;
    stand.takes(&FIRST)?;
    Ok(format!("known after {lost:.1?}, back after {back:.1?}"))
}

/// Nobody is told that it has ended but by a unit attention that waits for a command.
fn change_slowly(stand: &mut Stand) -> Result<String> {
    FIRST.set("trans_delay_msecs", "1500")?;
    let change = thread::spawn(|| FIRST.change_to(State::NonOptimized));
    let began = stand.shows_access(&FIRST, State::Transitioning, SOON)?;
    stand.takes(&SECOND)?;
    change.join().map_err(|_| anyhow::anyhow!("the change panicked"))??;
    let over = stand.shows_access(&FIRST, State::NonOptimized, IDLE)?;
    Ok(format!("transition known after {began:.1?}, its end after {over:.1?}"))
}

fn lose_all(stand: &mut Stand, state: State) -> Result<String> {
    for group in [FIRST, SECOND] {
        stand.change(&group, state)?;
    }
    let lost = stand.shows("requests parked", WITHOUT_PATH, |show| {
        let are_so = |group: &PortGroup| path_to(show, group)["access"] == state.to_string();
        are_parked(show) && [FIRST, SECOND].iter().all(are_so)
    })?;
    thread::sleep(SOON);
    stand.load.ensure_alive()?;
    ensure!(are_parked(&stand.disk.ask(&["show"])?), "nothing waits any more");
    stand.change(&SECOND, State::NonOptimized)?;
    let back = stand.shows_access(&SECOND, State::NonOptimized, WITHOUT_PATH)?;
    stand.shows("nothing parked", SOON, |show| show["parked"] == 0)?;
    stand.takes(&SECOND)?;
    Ok(format!("parked after {lost:.1?}, released after {back:.1?}"))
}

/// It is shown, and no reason to use the group.
fn prefer(stand: &mut Stand) -> Result<String> {
    SECOND.set("preferred", "1")?;
    // LIO does not tell that; a change of state does.
    stand.change(&FIRST, State::NonOptimized)?;
    stand.change(&FIRST, State::Optimized)?;
    let known = stand.shows("second preferred", SOON, |show| {
        path_to(show, &SECOND)["preferred"] == true && path_to(show, &FIRST)["preferred"] == false
    })?;
    stand.takes(&FIRST)?;
    Ok(format!("shown after {known:.1?}"))
}

/// One group serves at any time, the other one does what it likes.
fn flap(stand: &mut Stand) -> Result<String> {
    const ALL: [State; 5] =
        [State::Optimized, State::NonOptimized, State::Standby, State::Unavailable, State::Transitioning];
    let mut random = Random::new(1);
    let (end, mut changes) = (Instant::now() + Duration::from_secs(15), 0);
    while Instant::now() < end {
        let (serving, other) = if changes % 2 == 0 { (FIRST, SECOND) } else { (SECOND, FIRST) };
        serving.change_to(State::Optimized)?;
        other.change_to(ALL[usize::try_from(random.below(5))?])?;
        thread::sleep(Duration::from_millis(50 + random.below(350)));
        stand.load.ensure_alive()?;
        changes += 1;
    }
    FIRST.change_to(State::Optimized)?;
    SECOND.change_to(State::Standby)?;
    stand.step(&format!("{changes} changes"));
    let known = stand.shows_access(&FIRST, State::Optimized, IDLE)?;
    stand.shows_access(&SECOND, State::Standby, IDLE)?;
    stand.takes(&FIRST)?;
    Ok(format!("{changes} changes, the last one known after {known:.1?}"))
}

/// At once, because no path is usable.
fn activate_standby(stand: &mut Stand) -> Result<String> {
    stand.change(&SECOND, State::Standby)?;
    stand.shows_access(&SECOND, State::Standby, IDLE)?;
    stand.change(&FIRST, State::Unavailable)?;
    let took = stand.shows_access(&SECOND, State::Optimized, WITHOUT_PATH)?;
    ensure!(SECOND.is(State::Optimized)?, "LIO was not told");
    stand.takes(&SECOND)?;
    ensure!(stand.count("group-activated")? == 1, "not told once");
    Ok(format!("activated after {took:.1?}"))
}

/// Only after five seconds, in which the other one could have come back.
fn activate_non_optimized(stand: &mut Stand) -> Result<String> {
    let began = Instant::now();
    stand.change(&FIRST, State::Unavailable)?;
    stand.takes(&SECOND)?;
    ensure!(SECOND.is(State::NonOptimized)?, "too early: after {:?}", began.elapsed());
    stand.shows_access(&SECOND, State::Optimized, Duration::from_secs(8))?;
    let took = began.elapsed();
    ensure!(SECOND.is(State::Optimized)? && took >= Duration::from_secs(5), "after {took:?}");
    ensure!(stand.count("group-activated")? == 1, "not told once");
    Ok(format!("activated after {took:.1?}"))
}

fn never_activated(stand: &mut Stand) -> Result<String> {
    stand.change(&SECOND, State::Standby)?;
    stand.change(&FIRST, State::Unavailable)?;
    stand.shows("requests parked", WITHOUT_PATH, are_parked)?;
    thread::sleep(WITHOUT_PATH);
    ensure!(SECOND.is(State::Standby)?, "LIO was told");
    let told = stand.count("group-activated")? + stand.count("group-not-activated")?;
    ensure!(told == 0, "told {told} times");
    stand.change(&SECOND, State::Optimized)?;
    stand.shows_access(&SECOND, State::Optimized, WITHOUT_PATH)?;
    stand.takes(&SECOND)?;
    Ok("nothing activated".to_owned())
}
