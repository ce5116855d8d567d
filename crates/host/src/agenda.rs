//! Which machines have something to say.

use std::collections::VecDeque;

/// The machines of a host, by their place in its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Nexus(u32),
    Disk(u32),
    /// The pace at which access states are asked for.
    Access,
    /// What the host itself waits for: drains, failovers.
    Own,
}

/// A queue in which every source stands at most once. Both kinds are numbered from zero without gaps, so that a bit
/// for each says whether it stands there.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    queue: VecDeque<Source>,
    nexuses: Vec<bool>,
    disks: Vec<bool>,
    access: bool,
    own: bool,
}

impl Agenda {
    pub(crate) fn add(&mut self, source: Source) {
        let listed = self.listed(source);
        if !std::mem::replace(listed, true) {
            self.queue.push_back(source);
        }
    }

    pub(crate) fn next(&mut self) -> Option<Source> {
        let source = self.queue.pop_front()?;
        *self.listed(source) = false;
        Some(source)
    }

    fn listed(&mut self, source: Source) -> &mut bool {
        let (table, index) = match source {
            Source::Nexus(index) => (&mut self.nexuses, index as usize),
            Source::Disk(index) => (&mut self.disks, index as usize),
            Source::Access => return &mut self.access,
            Source::Own => return &mut self.own,
        };
        if index >= table.len() {
            table.resize(index + 1, false);
        }
        &mut table[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_stands_there_already_does_not_stand_there_twice() {
        let mut agenda = Agenda::default();
        for source in [Source::Disk(3), Source::Nexus(3), Source::Disk(3)] {
            agenda.add(source);
        }
        assert_eq!((agenda.next(), agenda.next()), (Some(Source::Disk(3)), Some(Source::Nexus(3))));
        agenda.add(Source::Disk(3));
        assert_eq!((agenda.next(), agenda.next()), (Some(Source::Disk(3)), None));
    }
}
