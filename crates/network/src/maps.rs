//! The maps and links in bpffs: where they are, and typed access to them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuHashMap, PerCpuValues};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::error::{Doing, one_line};
use crate::kernel::{Address, Counter, Counters, Grant, LAYOUT, OpenPort, PodRecord};
use crate::plan::{Difference, Tables};
use crate::policy::Range;
use crate::record::{Counts, LocalPod, namespace_key, string};
use crate::{Error, Result};

// SAFETY: whole numbers in a row with no gap between them; every pattern of bits
// is a value.
#[allow(unsafe_code)]
unsafe impl aya::Pod for PodRecord {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl aya::Pod for Counter {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl aya::Pod for OpenPort {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl aya::Pod for Grant {}

/// The folder of all our pins, below the bpffs root.
const FOLDER: &str = "atoll";

/// Where maps and links are pinned.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// Makes the folders, and mounts bpffs at `bpffs` where there is none.
    pub fn create(bpffs: &Path) -> Result<Self> {
        std::fs::create_dir_all(bpffs).doing("making", bpffs)?;
        if statfs(bpffs).doing("looking at", bpffs)?.filesystem_type() != BPF_FS_MAGIC {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(Some("bpf"), bpffs, Some("bpf"), flags, Some("mode=0700"))
                .doing("mounting bpffs at", bpffs)?;
            tracing::info!(path = %bpffs.display(), "mounted bpffs");
        }
        let pins = Self::below(bpffs);
        for folder in [pins.maps(), pins.links()] {
            std::fs::create_dir_all(&folder).doing("making", folder)?;
        }
        Ok(pins)
    }

    /// What was made before, if it was.
    pub fn find(bpffs: &Path) -> Option<Self> {
        let pins = Self::below(bpffs);
        // The last one by name is not the last one made; all are made at once.
        pins.maps().join("epoch").exists().then_some(pins)
    }

    fn below(bpffs: &Path) -> Self {
        Self { root: bpffs.join(FOLDER).join(LAYOUT) }
    }

    /// The folder of the maps.
    pub fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    /// The folder of the links.
    pub fn links(&self) -> PathBuf {
        self.root.join("links")
    }

    /// Who holds it is the only one who changes records and links. It ends with
    /// the process that holds it.
    pub fn lock(&self) -> Result<Flock<File>> {
        let folder = File::open(&self.root).doing("opening", &self.root)?;
        Flock::lock(folder, FlockArg::LockExclusive).map_err(|(_, error)| error).doing("locking", &self.root)
    }

    /// Removes everything below, of every layout: programs are detached, maps go
    /// with the last program that uses them.
    pub fn remove_all(bpffs: &Path) -> Result<()> {
        let folder = bpffs.join(FOLDER);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).doing("removing", folder)
            }
            _ => Ok(()),
        }
    }
}

/// The pinned maps.
pub struct Maps {
    pods: HashMap<MapData, u32, PodRecord>,
    counters: PerCpuHashMap<MapData, u32, Counters>,
    addresses: HashMap<MapData, Address, u64>,
    ranges: LpmTrie<MapData, Address, u32>,
    open_ports: HashMap<MapData, OpenPort, u8>,
    grants: HashMap<MapData, Grant, u8>,
    namespaces: HashMap<MapData, [u8; 64], u64>,
    epoch: Array<MapData, [u8; 16]>,
}

impl std::fmt::Debug for Maps {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Maps").finish_non_exhaustive()
    }
}

impl Maps {
    /// Opens what is pinned.
    pub fn open(pins: &Pins) -> Result<Self> {
        fn map<T: TryFrom<Map, Error = MapError>>(pins: &Pins, name: &'static str) -> Result<T> {
            MapData::from_pin(pins.maps().join(name))
                .and_then(Map::from_map_data)
                .and_then(T::try_from)
                .on(name)
        }
        Ok(Self {
            pods: map(pins, "pods")?,
            counters: map(pins, "counters")?,
            addresses: map(pins, "addresses")?,
            ranges: map(pins, "ranges")?,
            open_ports: map(pins, "open_ports")?,
            grants: map(pins, "grants")?,
            namespaces: map(pins, "namespaces")?,
            epoch: map(pins, "epoch")?,
        })
    }

    /// Which life of the counters this is; made once, with the maps.
    pub fn epoch(&mut self) -> Result<String> {
        use std::io::Read as _;
        let mut epoch = self.epoch.get(&0, 0).on("epoch")?;
        if epoch == [0; 16] {
            let random = "/dev/urandom";
            File::open(random).and_then(|mut file| file.read_exact(&mut epoch)).doing("reading", random)?;
            self.epoch.set(0, epoch, 0).on("epoch")?;
        }
        Ok(epoch.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// This node's pods by slot.
    pub fn pods(&self) -> Result<BTreeMap<u32, LocalPod>> {
        let mut pods = BTreeMap::new();
        for entry in self.pods.iter() {
            let (slot, record) = entry.on("pods")?;
            pods.insert(slot, LocalPod::from_record(&record));
        }
        Ok(pods)
    }

    /// Writes a pod's record. Its counters begin at zero, if it has none yet.
    pub fn put_pod(&mut self, slot: u32, pod: &LocalPod) -> Result<()> {
        let record = pod.to_record()?;
        if matches!(self.counters.get(&slot, 0), Err(MapError::KeyNotFound)) {
            let processors = aya::util::nr_cpus().map_err(|(_, error)| MapError::IoError(error));
            let zero = processors
                .and_then(|count| Ok(PerCpuValues::try_from(vec![Counters::default(); count])?))
                .on("counters")?;
            self.counters.insert(slot, zero, 0).on("counters")?;
        }
        self.pods.insert(slot, record, 0).on("pods")
    }

    /// Removes a pod's record and its counters.
    pub fn remove_pod(&mut self, slot: u32) -> Result<()> {
        absent_is_well(self.pods.remove(&slot)).on("pods")?;
        absent_is_well(self.counters.remove(&slot)).on("counters")
    }

    /// What was counted in a slot.
    pub fn counts(&self, slot: u32) -> Result<Counts> {
        match self.counters.get(&slot, 0) {
            Ok(processors) => Ok(Counts::sum(&processors)),
            Err(MapError::KeyNotFound) => Ok(Counts::default()),
            Err(error) => Err(error).on("counters"),
        }
    }

    /// The identity of a namespace, as far as is known.
    pub fn identity(&self, namespace: &str) -> Result<Option<u64>> {
        match self.namespaces.get(&namespace_key(namespace)?, 0) {
            Ok(identity) => Ok(Some(identity)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error).on("namespaces"),
        }
    }

    /// Says whose an address is.
    pub fn put_address(&mut self, address: Address, identity: u64) -> Result<()> {
        self.addresses.insert(address, identity, 0).on("addresses")
    }

    /// Makes an address nobody's.
    pub fn remove_address(&mut self, address: &Address) -> Result<()> {
        absent_is_well(self.addresses.remove(address)).on("addresses")
    }

    /// The tables' content as it is.
    pub fn tables(&self) -> Result<Tables> {
        let mut tables = Tables::default();
        for entry in self.addresses.iter() {
            let (address, identity) = entry.on("addresses")?;
            tables.addresses.insert(address, identity);
        }
        for entry in self.ranges.iter() {
            let (key, range) = entry.on("ranges")?;
            tables.ranges.insert((key.prefix_len(), key.data()), Range::from_number(range));
        }
        for port in self.open_ports.keys() {
            tables.open_ports.insert(port.on("open_ports")?);
        }
        for grant in self.grants.keys() {
            tables.grants.insert(grant.on("grants")?);
        }
        for entry in self.namespaces.iter() {
            let (namespace, identity) = entry.on("namespaces")?;
            tables.namespaces.insert(string(&namespace), identity);
        }
        Ok(tables)
    }

    /// Leads the tables from one content to another. What closes comes before
    /// what opens: half of it done opens nothing.
    pub fn apply(&mut self, old: &Tables, new: &Tables) -> Result<usize> {
        let ranges = Difference::between(&old.ranges, &new.ranges);
        let addresses = Difference::between(&old.addresses, &new.addresses);
        let namespaces = Difference::between(&old.namespaces, &new.namespaces);
        let mut changed = ranges.len() + addresses.len() + namespaces.len();

        for port in old.open_ports.difference(&new.open_ports) {
            absent_is_well(self.open_ports.remove(port)).on("open_ports")?;
            changed += 1;
        }
        for grant in old.grants.difference(&new.grants) {
            absent_is_well(self.grants.remove(grant)).on("grants")?;
            changed += 1;
        }
        // An address without a range is the internet's.
        for ((length, first), range) in ranges.put {
            self.ranges.insert(&Key::new(length, first), range as u32, 0).on("ranges")?;
        }
        for address in addresses.remove {
            self.remove_address(&address)?;
        }
        for (address, identity) in addresses.put {
            self.put_address(address, identity)?;
        }
        for (length, first) in ranges.remove {
            absent_is_well(self.ranges.remove(&Key::new(length, first))).on("ranges")?;
        }
        for port in new.open_ports.difference(&old.open_ports) {
            self.open_ports.insert(port, 1, 0).on("open_ports")?;
            changed += 1;
        }
        for namespace in namespaces.remove {
            absent_is_well(self.namespaces.remove(&namespace_key(&namespace)?)).on("namespaces")?;
        }
        for (namespace, identity) in namespaces.put {
            self.namespaces.insert(namespace_key(&namespace)?, identity, 0).on("namespaces")?;
        }
        for grant in new.grants.difference(&old.grants) {
            self.grants.insert(grant, 1, 0).on("grants")?;
            changed += 1;
        }
        Ok(changed)
    }
}

/// Adds to an error the map's name.
trait On<T> {
    fn on(self, name: &'static str) -> Result<T>;
}

impl<T> On<T> for std::result::Result<T, MapError> {
    fn on(self, name: &'static str) -> Result<T> {
        self.map_err(|error| Error::Map { name, why: one_line(&error) })
    }
}

/// What isn't there needs no removal. Maps of prefixes say so otherwise.
fn absent_is_well(result: std::result::Result<(), MapError>) -> std::result::Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
