//! The two programs of a pod: loaded for its slot, attached to its link, pinned.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};

use crate::error::{Doing, one_line};
use crate::maps::Pins;
use crate::{Error, Result};

/// The programs by name, and the end of the link's name that each has. What
/// enters the node's side of the link is what the pod sends.
const PROGRAMS: [(&str, TcAttachType, &str); 2] =
    [("from_pod", TcAttachType::Ingress, "sent"), ("to_pod", TcAttachType::Egress, "received")];

/// The kernel half as it was built.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    object: Vec<u8>,
}

impl Program {
    /// Reads the object.
    pub fn read(path: &Path) -> Result<Self> {
        let object = std::fs::read(path).doing("reading the network program", path)?;
        Ok(Self { path: path.to_owned(), object })
    }

    /// Loads both programs for a slot. Maps that aren't pinned yet are made; hold
    /// the lock.
    fn load(&self, pins: &Pins, slot: u32) -> Result<Ebpf> {
        let mut ebpf = EbpfLoader::new()
            // The programs use no kernel types, and reading theirs takes long.
            .btf(None)
            .default_map_pin_directory(pins.maps())
            .override_global("SLOT", &slot, true)
            .load(&self.object)
            .map_err(|error| self.error(&error))?;
        for (name, ..) in PROGRAMS {
            load(self.program(&mut ebpf, name)?).map_err(|error| self.error(&error))?;
        }
        Ok(ebpf)
    }

    fn program<'a>(&self, ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
        let program = ebpf.program_mut(name).ok_or_else(|| Error::Load {
            path: self.path.clone(),
            why: format!("there is no program {name} in it"),
        })?;
        program.try_into().map_err(|error| self.error(&error))
    }

    fn error(&self, error: &dyn std::error::Error) -> Error {
        Error::Load { path: self.path.clone(), why: one_line(error) }
    }

    /// Makes the maps, and shows that the kernel takes the programs. Links that
    /// run other programs are given these, with no packet between. Returns how
    /// many were.
    pub fn install(&self, pins: &Pins) -> Result<usize> {
        let mut ebpf = self.load(pins, 0)?;
        let mut replaced = 0;
        for (name, ..) in PROGRAMS {
            let info = self.program(&mut ebpf, name)?.info().map_err(|error| self.error(&error))?;
            for link in links(pins)?.into_iter().filter(|link| link.program == name) {
                let Some(running) = link.running()? else { continue };
                if running.tag == info.tag() {
                    continue;
                }
                let mut own = self.load(pins, link.slot)?;
                let because = |error: &dyn std::error::Error| Error::Attach {
                    interface: link.interface.clone(),
                    why: one_line(error),
                };
                let old: SchedClassifierLink =
                    running.link.try_into().map_err(|error: LinkError| because(&error))?;
                self.program(&mut own, name)?.attach_to_link(old).map_err(|error| because(&error))?;
                replaced += 1;
            }
        }
        Ok(replaced)
    }

    /// Attaches both programs to a link before any others, and pins them. When it
    /// fails, neither is attached.
    pub fn attach(&self, pins: &Pins, slot: u32, interface: &str) -> Result<()> {
        let attached = self.try_attach(pins, slot, interface);
        if attached.is_err() {
            // Two files, which may not be there.
            for (.., end) in PROGRAMS {
                let _ = std::fs::remove_file(pin(pins, slot, interface, end));
            }
        }
        attached
    }

    fn try_attach(&self, pins: &Pins, slot: u32, interface: &str) -> Result<()> {
        let because = |error: &dyn std::error::Error| Error::Attach {
            interface: interface.to_owned(),
            why: one_line(error),
        };
        let mut ebpf = self.load(pins, slot)?;
        for (name, side, end) in PROGRAMS {
            let program = self.program(&mut ebpf, name)?;
            let order = TcAttachOptions::TcxOrder(LinkOrder::first());
            let id = program.attach_with_options(interface, side, order).map_err(|error| because(&error))?;
            let link = program.take_link(id).map_err(|error| because(&error))?;
            let link = FdLink::try_from(link).map_err(|error| because(&error))?;
            let path = pin(pins, slot, interface, end);
            // Left by a link of the same name that is gone.
            let _ = std::fs::remove_file(&path);
            link.pin(path).map_err(|error| because(&error))?;
        }
        Ok(())
    }
}

/// The kernel stops reading a program when its caller is wanted elsewhere, and then wants
/// to be asked again.
fn load(program: &mut SchedClassifier) -> std::result::Result<(), ProgramError> {
    for _ in 0..10 {
        match program.load() {
            Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == ErrorKind::WouldBlock => {}
            other => return other,
        }
    }
    program.load()
}

fn pin(pins: &Pins, slot: u32, interface: &str, end: &str) -> PathBuf {
    // bpffs takes no dots.
    pins.links().join(format!("{slot}-{}-{end}", interface.replace('.', ":")))
}

/// A pinned link, by its name.
#[derive(Debug)]
struct Pinned {
    path: PathBuf,
    slot: u32,
    interface: String,
    program: &'static str,
    side: TcAttachType,
}

/// What a link runs.
struct Running {
    link: FdLink,
    tag: u64,
}

fn links(pins: &Pins) -> Result<Vec<Pinned>> {
    let folder = pins.links();
    let mut links = Vec::new();
    for entry in std::fs::read_dir(&folder).doing("reading", &folder)? {
        let path = entry.doing("reading", &folder)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let parsed = name.split_once('-').and_then(|(slot, rest)| {
            let (interface, end) = rest.rsplit_once('-')?;
            let (program, side, _) = PROGRAMS.into_iter().find(|(.., known)| *known == end)?;
            Some((slot.parse().ok()?, interface.replace(':', "."), program, side))
        });
        if let Some((slot, interface, program, side)) = parsed {
            links.push(Pinned { path, slot, interface, program, side });
        }
    }
    Ok(links)
}

impl Pinned {
    /// What it runs, if its interface is still there. Another interface may have
    /// the same name by now: the link's program tells.
    fn running(&self) -> Result<Option<Running>> {
        let because = |error: &dyn std::error::Error| Error::Attach {
            interface: self.interface.clone(),
            why: one_line(error),
        };
        if nix::net::if_::if_nametoindex(self.interface.as_str()).is_err() {
            return Ok(None);
        }
        let link = PinnedLink::from_pin(&self.path).map_err(|error| because(&error))?;
        let link = FdLink::from(link);
        let id = link.info().map_err(|error| because(&error))?.program_id();
        let programs = match SchedClassifier::query_tcx(&self.interface, self.side) {
            Ok((_, programs)) => programs,
            // So the kernel says that there is none.
            Err(ProgramError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(because(&error)),
        };
        let Some(program) = programs.iter().find(|program| program.id() == id) else { return Ok(None) };
        Ok(Some(Running { link, tag: program.tag() }))
    }
}

/// How many of a slot's programs run on that interface: 2 if all is well.
pub fn attached(pins: &Pins, slot: u32, interface: &str) -> Result<usize> {
    let mut count = 0;
    for link in links(pins)? {
        if link.slot == slot && link.interface == interface && link.running()?.is_some() {
            count += 1;
        }
    }
    Ok(count)
}

/// Removes the pins of a slot whose interface is gone. Returns whether none is
/// left.
pub fn sweep(pins: &Pins, slot: u32) -> Result<bool> {
    let mut gone = true;
    for link in links(pins)?.into_iter().filter(|link| link.slot == slot) {
        if link.running()?.is_some() {
            gone = false;
        } else {
            std::fs::remove_file(&link.path).doing("removing", &link.path)?;
        }
    }
    Ok(gone)
}

/// Detaches a slot's programs from one interface.
pub fn detach(pins: &Pins, slot: u32, interface: &str) -> Result<()> {
    for link in links(pins)?.into_iter().filter(|link| link.slot == slot && link.interface == interface) {
        std::fs::remove_file(&link.path).doing("removing", &link.path)?;
    }
    Ok(())
}
