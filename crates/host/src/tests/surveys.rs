//! When a host looks at what is behind a nexus.

use clock::Duration;

use super::rig::{Door, Rig, options};

#[test]
fn a_survey_that_is_due_while_one_goes_on_is_put_off() {
    let mut options = options(1);
    options.initiator.nop_interval = Duration::from_secs(60);
    let mut rig = Rig::with(options, 1);
    rig.advance(Duration::from_millis(1));
    rig.doors[0] = Door::Dark;
    rig.host.survey_everything(0);
    rig.host.survey_later(0);
    // A timer that is due and stays due would let no time pass.
    rig.advance(Duration::from_secs(10));
    assert!(!rig.is_up(0), "its questions are not answered");
}
