//! A disk that forgets: a file system in memory (FUSE), on which only that outlives a loss of power which was synced.
//! The octets of a file by fsync or fdatasync of the file, its name by fsync of the folder, as POSIX says it and no
//! more kindly.
//!
//! Needs /dev/fuse and the right to mount, which is root's.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyStatfs,
    ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::random::Random;

/// What the disk does when it is told to sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncs {
    Kept,
    /// It says that it did and does nothing: what makes a database lose commits.
    Ignored,
}

/// What becomes of what was written and not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    AllLost,
    /// Each page is lost or not, as on a disk that was writing in an order of its own.
    SomeLost,
}

/// The disk, mounted on a folder until this is dropped.
pub struct Disk {
    folder: PathBuf,
    files: Arc<Mutex<Files>>,
    session: Option<BackgroundSession>,
}

const PAGE: usize = 4096;
/// The kernel may remember what it asked: nobody changes anything behind its back while the disk is mounted.
const REMEMBERED: Duration = Duration::from_secs(3600);

struct Files {
    syncs: Syncs,
    nodes: BTreeMap<u64, Node>,
    next: u64,
    /// How often something was synced.
    synced: u64,
}

struct Node {
    attributes: Attributes,
    content: Content,
}

#[derive(Clone, Copy)]
struct Attributes {
    mode: u16,
    uid: u32,
    gid: u32,
    modified: SystemTime,
}

enum Content {
    File { live: Vec<u8>, durable: Vec<u8>, dirty: BTreeSet<usize> },
    Folder { live: BTreeMap<Vec<u8>, u64>, durable: BTreeMap<Vec<u8>, u64> },
}

impl Disk {
    /// Mounts an empty disk on a folder, which is made.
    pub fn mount(folder: &Path, syncs: Syncs) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let root = Node { attributes: Attributes::new(0o755, 0, 0), content: Content::folder() };
        let files = Files { syncs, nodes: BTreeMap::from([(INodeNo::ROOT.0, root)]), next: 2, synced: 0 };
        let mut disk = Self { folder: folder.to_owned(), files: Arc::new(Mutex::new(files)), session: None };
        disk.attach();
        disk
    }

    /// Loses the power: what was not synced is gone. Nobody may have a file open. Says how many pages and names were
    /// lost.
    pub fn lose_power(&mut self, unsynced: Unsynced, random: &mut Random) -> usize {
        self.detach();
        let lost = self.files().lose(unsynced, random);
        self.attach();
        lost
    }

    /// What it does from now on when it is told to sync.
    pub fn obey(&self, syncs: Syncs) {
        self.files().syncs = syncs;
    }

    /// How often something was synced.
    pub fn synced(&self) -> u64 {
        self.files().synced
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attach(&mut self) {
        let mut options = fuser::Config::default();
        options.mount_options.push(fuser::MountOption::FSName("forgetful".into()));
        let mounted = fuser::spawn_mount(Mounted(self.files.clone()), &self.folder, &options);
        self.session = Some(mounted.unwrap_or_else(|error| panic!("no FUSE here (/dev/fuse, as root): {error}")));
    }

    fn detach(&mut self) {
        if let Some(session) = self.session.take() {
            session.umount_and_join().unwrap();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            drop(session.umount_and_join());
        }
    }
}

impl Attributes {
    fn new(mode: u32, uid: u32, gid: u32) -> Self {
        Self { mode: (mode & 0o7777) as u16, uid, gid, modified: SystemTime::now() }
    }
}

impl Content {
    fn file() -> Self {
        Self::File { live: vec![], durable: vec![], dirty: BTreeSet::new() }
    }

    fn folder() -> Self {
        Self::Folder { live: BTreeMap::new(), durable: BTreeMap::new() }
    }
}

impl Files {
    fn lose(&mut self, unsynced: Unsynced, random: &mut Random) -> usize {
        let mut lost = 0;
        for node in self.nodes.values_mut() {
            match &mut node.content {
                Content::Folder { live, durable } => {
                    lost += live.iter().filter(|(name, id)| durable.get(*name) != Some(id)).count();
                    lost += durable.keys().filter(|name| !live.contains_key(*name)).count();
                    live.clone_from(durable);
                }
                Content::File { live, durable, dirty } => {
                    let is_kept = |random: &mut Random| unsynced == Unsynced::SomeLost && random.below(2) == 0;
                    if live.len() != durable.len() && is_kept(random) {
                        durable.resize(live.len(), 0);
                    }
                    for page in std::mem::take(dirty) {
                        let end = ((page + 1) * PAGE).min(durable.len()).min(live.len());
                        match page * PAGE < end && is_kept(random) {
                            true => durable[page * PAGE..end].copy_from_slice(&live[page * PAGE..end]),
                            false => lost += 1,
                        }
                    }
                    live.clone_from(durable);
                }
            }
        }
        self.forget_nameless();
        lost
    }

    /// Removes what no folder names any more.
    fn forget_nameless(&mut self) {
        let mut named = BTreeSet::from([INodeNo::ROOT.0]);
        for node in self.nodes.values() {
            if let Content::Folder { live, durable } = &node.content {
                named.extend(live.values().chain(durable.values()));
            }
        }
        self.nodes.retain(|id, _| named.contains(id));
    }

    fn sync(&mut self, id: u64) -> Result<(), Errno> {
        self.synced += 1;
        let is_ignored = self.syncs == Syncs::Ignored;
        let node = self.nodes.get_mut(&id).ok_or(Errno::ENOENT)?;
        match &mut node.content {
            _ if is_ignored => {}
            Content::Folder { live, durable } => durable.clone_from(live),
            Content::File { live, durable, dirty } => {
                durable.resize(live.len(), 0);
                for page in std::mem::take(dirty) {
                    let end = ((page + 1) * PAGE).min(live.len());
                    if page * PAGE < end {
                        durable[page * PAGE..end].copy_from_slice(&live[page * PAGE..end]);
                    }
                }
            }
        }
        Ok(())
    }

    fn attributes(&self, id: u64) -> Result<FileAttr, Errno> {
        let node = self.nodes.get(&id).ok_or(Errno::ENOENT)?;
        let (kind, size) = match &node.content {
            Content::File { live, .. } => (FileType::RegularFile, live.len() as u64),
            Content::Folder { .. } => (FileType::Directory, 0),
        };
        let Attributes { mode, uid, gid, modified } = node.attributes;
        Ok(FileAttr {
            ino: INodeNo(id),
            size,
            blocks: size.div_ceil(512),
            atime: modified,
            mtime: modified,
            ctime: modified,
            crtime: UNIX_EPOCH,
            kind,
            perm: mode,
            nlink: self.names(id),
            uid,
            gid,
            rdev: 0,
            blksize: PAGE as u32,
            flags: 0,
        })
    }

    /// How many names a file has.
    fn names(&self, id: u64) -> u32 {
        let folders = self.nodes.values().filter_map(|node| match &node.content {
            Content::Folder { live, .. } => Some(live),
            Content::File { .. } => None,
        });
        let names = folders.flat_map(BTreeMap::values).filter(|named| **named == id).count();
        u32::try_from(names).unwrap()
    }

    fn folder(&mut self, id: u64) -> Result<&mut BTreeMap<Vec<u8>, u64>, Errno> {
        match self.nodes.get_mut(&id).map(|node| &mut node.content) {
            Some(Content::Folder { live, .. }) => Ok(live),
            Some(Content::File { .. }) => Err(Errno::ENOTDIR),
            None => Err(Errno::ENOENT),
        }
    }

    fn file(&mut self, id: u64) -> Result<(&mut Vec<u8>, &mut BTreeSet<usize>), Errno> {
        match self.nodes.get_mut(&id).map(|node| &mut node.content) {
            Some(Content::File { live, dirty, .. }) => Ok((live, dirty)),
            Some(Content::Folder { .. }) => Err(Errno::EISDIR),
            None => Err(Errno::ENOENT),
        }
    }

    fn find(&mut self, parent: u64, name: &OsStr) -> Result<u64, Errno> {
        self.folder(parent)?.get(name.as_encoded_bytes()).copied().ok_or(Errno::ENOENT)
    }

    fn make(&mut self, parent: u64, name: &OsStr, node: Node) -> Result<FileAttr, Errno> {
        let id = self.next;
        let entries = self.folder(parent)?;
        if entries.contains_key(name.as_encoded_bytes()) {
            return Err(Errno::EEXIST);
        }
        entries.insert(name.as_encoded_bytes().to_vec(), id);
        self.next += 1;
        self.nodes.insert(id, node);
        self.attributes(id)
    }

    fn remove(&mut self, parent: u64, name: &OsStr) -> Result<(), Errno> {
        // The node stays, because somebody may have it open, and because the name may come back.
        self.folder(parent)?.remove(name.as_encoded_bytes()).map(|_| ()).ok_or(Errno::ENOENT)
    }

    fn write(&mut self, id: u64, offset: usize, octets: &[u8]) -> Result<(), Errno> {
        let (live, dirty) = self.file(id)?;
        let end = offset + octets.len();
        if live.len() < end {
            live.resize(end, 0);
        }
        live[offset..end].copy_from_slice(octets);
        dirty.extend(offset / PAGE..end.div_ceil(PAGE));
        self.nodes.get_mut(&id).ok_or(Errno::ENOENT)?.attributes.modified = SystemTime::now();
        Ok(())
    }

    fn resize(&mut self, id: u64, size: usize) -> Result<(), Errno> {
        let (live, dirty) = self.file(id)?;
        // What is cut off and comes back is zeros.
        let begin = live.len().min(size) / PAGE;
        dirty.extend(begin..live.len().max(size).div_ceil(PAGE));
        live.resize(size, 0);
        Ok(())
    }

    fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr), flags: RenameFlags) -> Result<(), Errno> {
        let id = self.find(from.0, from.1)?;
        if flags.contains(RenameFlags::RENAME_NOREPLACE) && self.find(to.0, to.1).is_ok() {
            return Err(Errno::EEXIST);
        }
        self.remove(from.0, from.1)?;
        self.folder(to.0)?.insert(to.1.as_encoded_bytes().to_vec(), id);
        Ok(())
    }
}

/// What the kernel asks.
struct Mounted(Arc<Mutex<Files>>);

impl Mounted {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn done(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn entry(result: Result<FileAttr, Errno>, reply: ReplyEntry) {
    match result {
        Ok(attributes) => reply.entry(&REMEMBERED, &attributes, Generation(0)),
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut files = self.files();
        let found = files.find(parent.0, name).and_then(|id| files.attributes(id));
        entry(found, reply);
    }

    fn getattr(&self, _: &Request, id: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.files().attributes(id.0) {
            Ok(attributes) => reply.attr(&REMEMBERED, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        id: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut files = self.files();
        let resized = size.map_or(Ok(()), |size| files.resize(id.0, usize::try_from(size).unwrap()));
        if let Some(node) = files.nodes.get_mut(&id.0) {
            let old = node.attributes;
            node.attributes.mode = mode.map_or(old.mode, |mode| (mode & 0o7777) as u16);
            node.attributes.uid = uid.unwrap_or(old.uid);
            node.attributes.gid = gid.unwrap_or(old.gid);
        }
        match resized.and_then(|()| files.attributes(id.0)) {
            Ok(attributes) => reply.attr(&REMEMBERED, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let attributes = Attributes::new(mode & !umask, request.uid(), request.gid());
        entry(self.files().make(parent.0, name, Node { attributes, content: Content::folder() }), reply);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let attributes = Attributes::new(mode & !umask, request.uid(), request.gid());
        match self.files().make(parent.0, name, Node { attributes, content: Content::file() }) {
            Ok(made) => reply.created(&REMEMBERED, &made, Generation(0), FileHandle(0), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(self.files().remove(parent.0, name), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut files = self.files();
        let is_empty = files.find(parent.0, name).and_then(|id| Ok(files.folder(id)?.is_empty()));
        let removed = match is_empty {
            Ok(true) => files.remove(parent.0, name),
            Ok(false) => Err(Errno::ENOTEMPTY),
            Err(error) => Err(error),
        };
        done(removed, reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        done(self.files().rename((parent.0, name), (new_parent.0, new_name), flags), reply);
    }

    fn link(&self, _: &Request, id: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut files = self.files();
        let linked = match files.find(parent.0, name) {
            Ok(_) => Err(Errno::EEXIST),
            Err(_) => files.folder(parent.0).map(|entries| entries.insert(name.as_encoded_bytes().to_vec(), id.0)),
        };
        entry(linked.and_then(|_| files.attributes(id.0)), reply);
    }

    fn read(
        &self,
        _: &Request,
        id: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.files().file(id.0) {
            Ok((live, _)) => {
                let begin = usize::try_from(offset).unwrap().min(live.len());
                let end = (begin + size as usize).min(live.len());
                reply.data(&live[begin..end]);
            }
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        id: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.files().write(id.0, usize::try_from(offset).unwrap(), data) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap()),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, id: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        done(self.files().sync(id.0), reply);
    }

    fn fsyncdir(&self, _: &Request, id: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        done(self.files().sync(id.0), reply);
    }

    fn readdir(&self, _: &Request, id: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut files = self.files();
        let entries: Vec<(Vec<u8>, u64)> = match files.folder(id.0) {
            Ok(entries) => entries.iter().map(|(name, id)| (name.clone(), *id)).collect(),
            Err(error) => return reply.error(error),
        };
        let here = [(b".".to_vec(), id.0), (b"..".to_vec(), id.0)];
        for (index, (name, id)) in here.into_iter().chain(entries).enumerate().skip(usize::try_from(offset).unwrap()) {
            let kind = match files.nodes.get(&id).map(|node| &node.content) {
                Some(Content::File { .. }) => FileType::RegularFile,
                Some(Content::Folder { .. }) | None => FileType::Directory,
            };
            let name = std::os::unix::ffi::OsStringExt::from_vec(name);
            let name: std::ffi::OsString = name;
            if reply.add(INodeNo(id), index as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, PAGE as u32, 255, PAGE as u32);
    }
}

#[test]
fn what_was_not_synced_is_gone_after_a_loss_of_power_and_what_was_is_not() {
    use std::fs;
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let mount = folder.path().join("disk");
    let mut random = Random::new(7);
    for (syncs, survives) in [(Syncs::Kept, true), (Syncs::Ignored, false)] {
        let mut disk = Disk::mount(&mount, syncs);
        let mut file = fs::File::create(mount.join("named")).unwrap();
        file.write_all(b"synced").unwrap();
        file.sync_data().unwrap();
        fs::File::open(&mount).unwrap().sync_all().unwrap();
        file.write_all(b" and not").unwrap();
        drop(file);
        // Synced itself, and its folder is not: it has no name.
        let nameless = fs::File::create(mount.join("nameless")).unwrap();
        nameless.sync_all().unwrap();
        drop(nameless);
        assert_eq!(fs::read(mount.join("named")).unwrap(), b"synced and not");
        assert!(mount.join("nameless").exists());
        assert!(disk.lose_power(Unsynced::AllLost, &mut random) > 0);
        assert!(!mount.join("nameless").exists());
        assert_eq!(fs::read(mount.join("named")).ok(), survives.then(|| b"synced".to_vec()));
        assert_eq!(disk.synced(), 3);
    }
}
