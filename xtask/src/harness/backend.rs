//! The two targets that a disk is served over: tgtd, which nobody here wrote, and our embedded array.

use std::fmt;

use anyhow::Result;

use super::link::Link;
use super::room::Room;
use super::smpath::{Array, Route};
use super::tgt::{self, Provisioning, Tgt};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tgt,
    Array,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tgt => "tgt",
            Self::Array => "array",
        })
    }
}

/// One logical unit of a given size behind four paths.
#[derive(Debug)]
pub(crate) struct Backend {
    server: Server,
    pub(crate) routes: Vec<Route>,
}

/// What a target is started with besides.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extras<'a> {
    pub(crate) tgt: tgt::Start<'a>,
    /// For `smpath array`.
    pub(crate) array_options: &'a [&'a str],
}

/// Held for as long as the unit is to be there.
#[derive(Debug)]
enum Server {
    Tgt(Tgt),
    Array(Array),
}

impl Backend {
    pub(crate) fn start(kind: Kind, room: &Room, mebibytes: u64) -> Result<Self> {
        Self::start_with(kind, room, mebibytes, &Extras::default())
    }

    pub(crate) fn start_with(kind: Kind, room: &Room, mebibytes: u64, extras: &Extras<'_>) -> Result<Self> {
        match kind {
            Kind::Tgt => {
                let file = room.zeroes("lu", mebibytes << 20)?;
                let tgt = Tgt::start_in(&file, Provisioning::Thin, extras.tgt)?;
                Ok(Self { routes: routes(&tgt), server: Server::Tgt(tgt) })
            }
            Kind::Array => {
                let array = Array::start_with(&[&format!("size={mebibytes}M")], extras.array_options)?;
                Ok(Self { routes: array.routes.clone(), server: Server::Array(array) })
            }
        }
    }

    /// The same, but of one target whatever the kind, so that all paths are alike.
    pub(crate) fn of_one_target(kind: Kind, room: &Room, mebibytes: u64) -> Result<Self> {
        match kind {
            Kind::Tgt => {
                let mut tgt = Tgt::empty(4)?;
                let file = room.zeroes("lu", mebibytes << 20)?;
                tgt.add_target("one", &file, "shared01", Provisioning::Full)?;
                Ok(Self { routes: routes(&tgt), server: Server::Tgt(tgt) })
            }
            Kind::Array => Self::start(kind, room, mebibytes),
        }
    }

    /// Of the target's process.
    pub(crate) fn id(&self) -> u32 {
        match &self.server {
            Server::Tgt(tgt) => tgt.id(),
            Server::Array(array) => array.id(),
        }
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.routes.iter().map(Route::url).collect()
    }

    /// One link for each path, and the paths' addresses through them.
    pub(crate) fn links(&self) -> Result<(Vec<Link>, Vec<String>)> {
        let mut links = Vec::new();
        let mut urls = Vec::new();
        for route in &self.routes {
            let link = Link::to(route.portal)?;
            urls.push(route.url_through(link.address()));
            links.push(link);
        }
        Ok((links, urls))
    }
}

fn routes(tgt: &Tgt) -> Vec<Route> {
    let both = |portal| tgt.targets.iter().map(move |target| (portal, target.clone()));
    let all = tgt.portals.iter().copied().flat_map(both);
    all.map(|(portal, target)| Route { portal, target, lun: tgt::LUN }).collect()
}
