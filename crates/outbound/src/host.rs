//! The work on the files of a host, the same whether the host is this one or one at the other end of SSH.
//!
//! All files of a set are written beside their places first, under temporary names. Then they are renamed into place one
//! after the other, the key first, then its certificate, then the chain: a reader sees a key and a certificate that do not
//! belong together for no longer than these renames take. What a run changed is remembered, contents and all, until the
//! destination is dropped: when a command says that the new files are bad, the old ones are put back.

use crate::DeliveryError;
use crate::destination::{Changed, Destination, Fingerprint, Found, Item};
use crate::files::{self, CommandValues, FilePlan, Form, Part, Wanted};
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

/// How long a command may take.
pub(crate) const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// So much of what a command writes is kept.
pub(crate) const OUTPUT_OCTETS_MAX: usize = 16 * 1024;
/// A file that is longer is none of ours.
pub(crate) const FILE_OCTETS_MAX: usize = 1024 * 1024;
/// Temporary files that are older by so much are left over.
pub(crate) const LEFT_OVER_SECONDS: u64 = 60;
/// So much of a command's output is in a message.
const EXCERPT_CHARACTERS_MAX: usize = 500;
/// Stands in a fingerprint for what is no plain file.
const NOT_A_FILE: &[u8] = b"not a plain file";

/// What is at a path.
#[derive(Clone, PartialEq, Eq)]
pub enum Stored {
    /// Nothing.
    Absent,
    /// A plain file.
    File(StoredFile),
    /// A link, a folder, or a file too long to be ours. It is not followed and not read.
    Other,
}

/// A plain file.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// What is in it.
    pub content: Zeroizing<Vec<u8>>,
    /// Its mode.
    pub mode: u32,
    /// The numbers of its owner and group.
    pub owner: (u32, u32),
}

/// How creating a name ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It is there.
    Yes,
    /// Something else is there.
    Occupied,
}

/// How a command ended.
pub struct CommandEnd {
    /// Why it failed; none when it did not.
    pub failure: Option<String>,
    /// The beginning of what it wrote.
    pub output: Vec<u8>,
}

/// What both kinds of host can do. Paths are absolute, their last segment a name that was checked.
pub trait Host: Send + Sync {
    /// Reads what is at a path. A directory that is missing is an error.
    fn read(&self, path: &str) -> impl Future<Output = Result<Stored, DeliveryError>> + Send;

    /// Writes a temporary file beside a path, on disk when this returns, and gives its path.
    fn stage(
        &self,
        path: &str,
        content: &[u8],
        mode: u32,
        owner: Option<&str>,
    ) -> impl Future<Output = Result<String, DeliveryError>> + Send;

    /// Renames to a name that is free; never over something.
    fn place(&self, staged: &str, path: &str) -> impl Future<Output = Result<Placed, DeliveryError>> + Send;

    /// Renames over what is there, at once.
    fn place_over(&self, staged: &str, path: &str) -> impl Future<Output = Result<(), DeliveryError>> + Send;

    /// Removes a file. One that is gone is removed.
    fn discard(&self, path: &str) -> impl Future<Output = Result<(), DeliveryError>> + Send;

    /// Brings the names in a directory to disk, where that can be asked for.
    fn settle(&self, directory: &str) -> impl Future<Output = Result<(), DeliveryError>> + Send;

    /// Removes our temporary files that are a minute older than this one.
    fn sweep(&self, directory: &str, fresh: &str) -> impl Future<Output = Result<(), DeliveryError>> + Send;

    /// Runs a command of the shell.
    fn run(&self, command: &str) -> impl Future<Output = Result<CommandEnd, DeliveryError>> + Send;
}

/// A directory of a host.
pub struct HostFiles<H> {
    host: H,
    plan: FilePlan,
    directory: String,
    post_sync_command: Option<String>,
    health_check_command: Option<String>,
    /// What this run changed, in order.
    journal: Mutex<Vec<Change>>,
    swept: Mutex<HashSet<String>>,
    /// Modes and owners of files that were looked at, until it is asked for them.
    beside: Mutex<HashMap<String, Beside>>,
    /// The owner and group that files are to have, in numbers, once the host was asked.
    owner: OnceCell<Numbers>,
}

/// The mode of a file, and the numbers of its owner and group.
type Beside = (u32, (u32, u32));

/// Numbers of an owner and a group; none where nothing is wanted, or where the host does not say.
type Numbers = (Option<u32>, Option<u32>);

/// A file that was changed.
struct Change {
    path: String,
    before: Stored,
    /// What was put there; none when the file was removed.
    after: Option<Zeroizing<Vec<u8>>>,
}

/// A set of files as it is.
struct Present {
    directory: String,
    base: String,
    form: Form,
    files: Vec<(Part, Stored)>,
}

/// A file that is to be switched.
struct Step {
    path: String,
    before: Stored,
    staged: String,
    content: Zeroizing<Vec<u8>>,
}

impl<H: Host> HostFiles<H> {
    pub(crate) fn new(
        host: H,
        plan: FilePlan,
        directory: String,
        post_sync_command: Option<String>,
        health_check_command: Option<String>,
    ) -> Self {
        let (journal, swept, beside, owner) = (Mutex::default(), Mutex::default(), Mutex::default(), OnceCell::new());
        Self { host, plan, directory, post_sync_command, health_check_command, journal, swept, beside, owner }
    }

    async fn present(&self, directory: &str, base: &str, form: Form) -> Result<Present, DeliveryError> {
        let mut files = Vec::new();
        for part in self.plan.parts(form) {
            let stored = self.host.read(&files::join(directory, &part.file_name(base, form))).await?;
            files.push((part, stored));
        }
        Ok(Present { directory: directory.to_owned(), base: base.to_owned(), form, files })
    }

    /// The set that has that identifier.
    async fn present_at(&self, id: &str) -> Result<Present, DeliveryError> {
        let (directory, base, form) = set_of(id)?;
        self.present(&directory, &base, form).await
    }

    /// Writes all files beside their places. When one cannot be, none is left.
    async fn stage_all(&self, steps: Vec<(String, Stored, Wanted)>) -> Result<Vec<Step>, DeliveryError> {
        let mut staged: Vec<Step> = Vec::new();
        for (path, before, wanted) in steps {
            match self.host.stage(&path, &wanted.content, wanted.mode, self.plan.owner()).await {
                Ok(name) => staged.push(Step { path, before, staged: name, content: wanted.content }),
                Err(error) => {
                    self.discard_staged(&staged).await;
                    return Err(error);
                }
            }
        }
        if let Some(step) = staged.first() {
            let (directory, _) = files::split_path(&step.path)?;
            if self.swept().insert(directory.clone())
                && let Err(error) = self.host.sweep(&directory, &step.staged).await
            {
                // Only tidiness is lost.
                tracing::debug!("left-over temporary files in {directory} were not removed: {error}");
            }
        }
        Ok(staged)
    }

    /// Renames all files into place. When one cannot be, those that were are put back.
    async fn switch_all(&self, steps: Vec<Step>) -> Result<Vec<Change>, DeliveryError> {
        let mut changes = Vec::new();
        for (place, step) in steps.iter().enumerate() {
            let placed = match step.before {
                Stored::Absent => self.host.place(&step.staged, &step.path).await,
                Stored::File(_) | Stored::Other => {
                    self.host.place_over(&step.staged, &step.path).await.map(|()| Placed::Yes)
                }
            };
            let error = match placed {
                Ok(Placed::Yes) => {
                    let (before, after) = (step.before.clone(), Some(step.content.clone()));
                    changes.push(Change { path: step.path.clone(), before, after });
                    continue;
                }
                Ok(Placed::Occupied) => taken(&step.path),
                Err(error) => error,
            };
            self.discard_staged(&steps[place..]).await;
            let left = self.undo(&changes).await;
            return Err(match left.is_empty() {
                true => error,
                false => {
                    DeliveryError::Unknown(format!("{error}; what was switched before could not be put back: {left}"))
                }
            });
        }
        Ok(changes)
    }

    async fn discard_staged(&self, steps: &[Step]) {
        for step in steps {
            if let Err(error) = self.host.discard(&step.staged).await {
                tracing::debug!("{} was not removed, the next run does it: {error}", step.staged);
            }
        }
    }

    /// Puts back what changes replaced, the last one first, and says what could not be.
    async fn undo(&self, changes: &[Change]) -> String {
        let mut left = Vec::new();
        for change in changes.iter().rev() {
            match self.undo_one(change).await {
                Ok(true) => {}
                Ok(false) => left.push(format!("{} was changed by somebody else since", change.path)),
                Err(error) => left.push(format!("{}: {error}", change.path)),
            }
        }
        left.join("; ")
    }

    /// Whether it was put back; not when the file is not as we left it.
    async fn undo_one(&self, change: &Change) -> Result<bool, DeliveryError> {
        let as_we_left_it = match (self.host.read(&change.path).await?, &change.after) {
            (Stored::File(file), Some(content)) => file.content == *content,
            (Stored::Absent, None) => true,
            (Stored::File(_) | Stored::Absent | Stored::Other, _) => false,
        };
        if !as_we_left_it {
            return Ok(false);
        }
        match (&change.before, &change.after) {
            (Stored::Absent, _) => self.host.discard(&change.path).await?,
            (Stored::Other, _) => return Ok(false),
            (Stored::File(file), after) => {
                let owner = format!("{}:{}", file.owner.0, file.owner.1);
                let staged = self.host.stage(&change.path, &file.content, file.mode, Some(&owner)).await?;
                match after {
                    Some(_) => self.host.place_over(&staged, &change.path).await?,
                    None => {
                        if self.host.place(&staged, &change.path).await? == Placed::Occupied {
                            self.host.discard(&staged).await?;
                            return Ok(false);
                        }
                    }
                }
            }
        }
        Ok(true)
    }

    /// Runs the commands that the sync asks for, and says which one failed and how.
    async fn run_commands(&self, values: &CommandValues<'_>) -> Result<(), DeliveryError> {
        self.run("postSyncCommand", self.post_sync_command.as_deref(), values).await?;
        self.run("healthCheckCommand", self.health_check_command.as_deref(), values).await
    }

    async fn run(&self, field: &str, template: Option<&str>, values: &CommandValues<'_>) -> Result<(), DeliveryError> {
        let Some(template) = template.filter(|template| !template.trim().is_empty()) else { return Ok(()) };
        let end = self.host.run(&self.plan.command(template, values)?).await?;
        let Some(failure) = end.failure else { return Ok(()) };
        let output =
            self.plan.without_secrets(&crate::refusal::without_private_keys(&String::from_utf8_lossy(&end.output)));
        let excerpt: String = output.trim().chars().take(EXCERPT_CHARACTERS_MAX).collect();
        let said = if excerpt.is_empty() { "it wrote nothing".to_owned() } else { format!("it wrote: {excerpt}") };
        Err(DeliveryError::Refused(format!("{field} {failure}; {said}")))
    }

    /// Why a file is not as it is wanted although its content is; none when it is.
    async fn stray(&self, path: &str, (mode, owner): Beside, wanted: u32) -> Result<Option<String>, DeliveryError> {
        if mode != wanted {
            return Ok(Some(format!("{path} has the mode {mode:03o} and not {wanted:03o}")));
        }
        let Some(named) = self.plan.owner() else { return Ok(None) };
        let (user, group) = *self.owner.get_or_try_init(|| self.numbers_of(named)).await?;
        let is_theirs = user.is_none_or(|user| user == owner.0) && group.is_none_or(|group| group == owner.1);
        Ok((!is_theirs).then(|| format!("{path} belongs to {}:{} and not to {named}", owner.0, owner.1)))
    }

    /// Asks the host for the numbers of an owner. A host that does not know is not held to it: `chown` says so when files are
    /// written.
    async fn numbers_of(&self, owner: &str) -> Result<Numbers, DeliveryError> {
        let (user, group) = owner.split_once(':').unwrap_or((owner, ""));
        let mut numbers = (None, None);
        for (name, ask, number) in [(user, "id -u", &mut numbers.0), (group, "getent group", &mut numbers.1)] {
            if name.is_empty() {
                continue;
            }
            let end = self.host.run(&format!("{ask} {}", files::shell_literal(name))).await?;
            let said = String::from_utf8_lossy(&end.output).trim().to_owned();
            // `getent` answers with a line of the group file: name, password, number, members.
            let said = said.split(':').nth(2).unwrap_or(&said);
            *number = said.parse().ok().filter(|_| end.failure.is_none());
        }
        Ok(numbers)
    }

    fn journal(&self) -> MutexGuard<'_, Vec<Change>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn swept(&self) -> MutexGuard<'_, HashSet<String>> {
        self.swept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what was changed. Without a command nothing will have to be put back, and no contents are kept.
    fn remember(&self, changes: Vec<Change>) {
        let has_command = self.post_sync_command.is_some() || self.health_check_command.is_some();
        let kept = changes.into_iter().map(|change| match (has_command, &change.after) {
            (true, _) | (false, None) => change,
            (false, Some(_)) => Change { path: change.path, before: Stored::Absent, after: Some(Zeroizing::default()) },
        });
        self.journal().extend(kept);
    }

    /// Whether this run put a file there.
    fn has_written(&self, path: &str) -> bool {
        self.journal().iter().any(|change| change.path == path && change.after.is_some())
    }
}

impl Present {
    fn path(&self, part: Part) -> String {
        files::join(&self.directory, &part.file_name(&self.base, self.form))
    }

    fn of(&self, part: Part) -> &Stored {
        self.files.iter().find(|(other, _)| *other == part).map_or(&Stored::Absent, |(_, stored)| stored)
    }

    fn is_empty(&self) -> bool {
        self.files.iter().all(|(_, stored)| *stored == Stored::Absent)
    }

    fn fingerprint(&self) -> Fingerprint {
        files::fingerprint(self.files.iter().filter_map(|(part, stored)| match stored {
            Stored::Absent => None,
            Stored::File(file) => Some((*part, file.content.as_slice())),
            Stored::Other => Some((*part, NOT_A_FILE)),
        }))
    }

    fn found(&self) -> Found {
        let there = self.files.iter().filter(|(_, stored)| *stored != Stored::Absent);
        let mut details: Vec<String> = there.map(|(part, _)| self.path(*part)).collect();
        let id = self.path(self.form.first());
        // The first file leads the list, as it does where paths are shown.
        details.sort_by_key(|path| *path != id);
        Found { id, fingerprint: self.fingerprint(), mark: None, version: None, details }
    }

    /// Whether each file that is there is exactly the one that is wanted, and one of them holds the certificate or its key:
    /// no other certificate's set looks like that.
    fn is_surely(&self, wanted: &[Wanted]) -> bool {
        let equal = |part: Part, stored: &Stored| match stored {
            Stored::Absent => true,
            Stored::Other => false,
            Stored::File(file) => wanted.iter().any(|one| one.part == part && one.content == file.content),
        };
        self.files.iter().all(|(part, stored)| equal(*part, stored))
            && self.files.iter().any(|(part, stored)| *part != Part::Chain && *stored != Stored::Absent)
    }
}

impl<H: Host> Destination for HostFiles<H> {
    fn must_take(&self, item: &Item) -> Result<(), DeliveryError> {
        files::must_be_base_name(&item.name)?;
        self.plan.files(item).map(drop)
    }

    fn expected(&self, item: &Item) -> Option<Fingerprint> {
        let wanted = self.plan.files(item).ok()?;
        Some(files::fingerprint(wanted.iter().map(|file| (file.part, file.content.as_slice()))))
    }

    async fn look(&self, id: &str) -> Result<Option<Found>, DeliveryError> {
        let present = self.present_at(id).await?;
        let mut beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        for (part, stored) in &present.files {
            if let Stored::File(file) = stored {
                beside.insert(present.path(*part), (file.mode, file.owner));
            }
        }
        Ok((!present.is_empty()).then(|| present.found()))
    }

    async fn strayed(&self, found: &Found, item: &Item) -> Result<Option<String>, DeliveryError> {
        let (directory, base, form) = set_of(&found.id)?;
        for file in self.plan.files(item)? {
            let path = files::join(&directory, &file.part.file_name(&base, form));
            let seen = self.beside.lock().unwrap_or_else(PoisonError::into_inner).remove(&path);
            let Some(seen) = seen else { continue };
            if let Some(why) = self.stray(&path, seen, file.mode).await? {
                return Ok(Some(why));
            }
        }
        Ok(None)
    }

    async fn find(&self, item: &Item) -> Result<Vec<Found>, DeliveryError> {
        self.must_take(item)?;
        let present = self.present(&self.directory, &item.name, self.plan.form()).await?;
        if present.is_empty() {
            return Ok(Vec::new());
        }
        let mark = present.is_surely(&self.plan.files(item)?).then_some(item.mark);
        Ok(vec![Found { mark, ..present.found() }])
    }

    async fn create(&self, item: &Item) -> Result<Found, DeliveryError> {
        self.must_take(item)?;
        let present = self.present(&self.directory, &item.name, self.plan.form()).await?;
        let wanted = self.plan.files(item)?;
        if !present.is_empty() && !present.is_surely(&wanted) {
            let occupied = present.files.iter().find(|(_, stored)| *stored != Stored::Absent);
            return Err(taken(&occupied.map_or_else(String::new, |(part, _)| present.path(*part))));
        }
        let missing = wanted
            .into_iter()
            .filter(|file| *present.of(file.part) == Stored::Absent)
            .map(|file| (present.path(file.part), Stored::Absent, file))
            .collect();
        let staged = self.stage_all(missing).await?;
        let changes = self.switch_all(staged).await?;
        self.remember(changes);
        self.host.settle(&self.directory).await.map_err(after_a_change)?;
        let present = self.present(&self.directory, &item.name, self.plan.form()).await.map_err(after_a_change)?;
        Ok(Found { mark: Some(item.mark), ..present.found() })
    }

    async fn replace(&self, found: &Found, item: &Item) -> Result<Found, DeliveryError> {
        self.must_take(item)?;
        let before = self.present_at(&found.id).await?;
        let wanted = self.plan.files(item)?;
        let (current, after) = (before.fingerprint(), self.expected(item));
        if current != found.fingerprint && Some(&current) != after.as_ref() {
            return Err(DeliveryError::Unavailable(format!("{} was changed in the meantime", found.id)));
        }
        let recorded = recorded_paths(found)?;
        let form = self.plan.form();
        let mut steps = Vec::new();
        let mut kept = Vec::new();
        for file in wanted {
            let path = files::join(&before.directory, &file.part.file_name(&before.base, form));
            let stored = self.host.read(&path).await?;
            kept.push(path.clone());
            match &stored {
                Stored::File(old)
                    if old.content == file.content
                        && self.stray(&path, (old.mode, old.owner), file.mode).await?.is_none() =>
                {
                    continue;
                }
                Stored::Absent => {}
                Stored::File(_) | Stored::Other if recorded.contains(&path) => {}
                Stored::File(_) | Stored::Other => return Err(taken(&path)),
            }
            steps.push((path, stored, file));
        }
        let staged = self.stage_all(steps).await?;
        let changes = self.switch_all(staged).await?;
        let mut something_changed = !changes.is_empty();
        self.remember(changes);
        for path in recorded.into_iter().filter(|path| !kept.contains(path)) {
            let old = self.host.read(&path).await.map_err(after_a_change)?;
            if old != Stored::Absent {
                self.host.discard(&path).await.map_err(after_a_change)?;
                self.remember(vec![Change { path, before: old, after: None }]);
                something_changed = true;
            }
        }
        if something_changed {
            self.host.settle(&before.directory).await.map_err(after_a_change)?;
        }
        let present = self.present(&before.directory, &before.base, form).await.map_err(after_a_change)?;
        Ok(Found { mark: found.mark, ..present.found() })
    }

    async fn remove(&self, found: &Found) -> Result<(), DeliveryError> {
        let (directory, _, _) = set_of(&found.id)?;
        // What this run wrote under the same name belongs to another certificate by now.
        let paths = recorded_paths(found)?.into_iter().filter(|path| !self.has_written(path));
        for path in paths {
            self.host.discard(&path).await?;
        }
        self.host.settle(&directory).await
    }

    async fn finish(&self, changed: &Changed) -> Result<(), DeliveryError> {
        let Some((first, common_name)) = changed.delivered.first() else { return Ok(()) };
        let (directory, _) = files::split_path(&first.id)?;
        let all: Vec<String> = changed.delivered.iter().flat_map(|(found, _)| found.details.iter().cloned()).collect();
        let values = CommandValues { certificate_path: &first.id, directory: &directory, files: &all, common_name };
        let Err(cause) = self.run_commands(&values).await else { return Ok(()) };

        let changes = std::mem::take(&mut *self.journal());
        if changes.is_empty() {
            // What an earlier run wrote before it broke off: what was there before is not known any more.
            let then = "The files of a run that broke off before its command stay";
            return Err(match cause {
                DeliveryError::Refused(text) => DeliveryError::Refused(format!("{text}. {then}")),
                other => DeliveryError::Unavailable(format!("{other}. {then}")),
            });
        }
        let mut left = self.undo(&changes).await;
        for directory in
            changes.iter().filter_map(|change| files::split_path(&change.path).ok().map(|(first, _)| first))
        {
            if let Err(error) = self.host.settle(&directory).await {
                left = format!("{left} {error}");
            }
        }
        if !left.is_empty() {
            return Err(DeliveryError::Unknown(format!("{cause}. Not every file could be put back: {left}")));
        }
        // The service has to take up the old files again.
        let again = self.run("postSyncCommand", self.post_sync_command.as_deref(), &values).await;
        let then = match again {
            Ok(()) => "The files were put back as they were".to_owned(),
            Err(error) => format!("The files were put back as they were, and then {error}"),
        };
        Err(match cause {
            DeliveryError::Refused(text) => DeliveryError::Refused(format!("{text}. {then}")),
            other => DeliveryError::Unavailable(format!("{other}. {then}")),
        })
    }
}

/// Directory, base name and form of the set that has that identifier.
fn set_of(id: &str) -> Result<(String, String, Form), DeliveryError> {
    let (directory, name) = files::split_path(id)?;
    match Form::of(name) {
        Some((base, form)) => Ok((directory, base.to_owned(), form)),
        None => Err(DeliveryError::Refused(format!("{id} is not a path of a certificate that was delivered"))),
    }
}

/// The files of an object, each held to be one that a set of its name may have.
fn recorded_paths(found: &Found) -> Result<Vec<String>, DeliveryError> {
    let (directory, base, _) = set_of(&found.id)?;
    let possible: Vec<String> = [Form::Pem, Form::Crt, Form::Pkcs12]
        .into_iter()
        .flat_map(|form| [Part::Leaf, Part::Chain, Part::Key, Part::Pkcs12].map(|part| part.file_name(&base, form)))
        .map(|name| files::join(&directory, &name))
        .collect();
    let mut paths = vec![found.id.clone()];
    for path in &found.details {
        if !possible.contains(path) {
            return Err(DeliveryError::Refused(format!("{path} is not a file of {}", found.id)));
        }
        if !paths.contains(path) {
            paths.push(path.clone());
        }
    }
    Ok(paths)
}

/// What went wrong once files were switched: it is no longer so that nothing was done.
fn after_a_change(error: DeliveryError) -> DeliveryError {
    match error {
        DeliveryError::Unavailable(text) | DeliveryError::Connection(text) | DeliveryError::Unknown(text) => {
            DeliveryError::Unknown(text)
        }
        DeliveryError::Refused(text) => DeliveryError::Refused(text),
        DeliveryError::Taken(text) => DeliveryError::Taken(text),
    }
}

fn taken(path: &str) -> DeliveryError {
    DeliveryError::Taken(format!("{path} is there already, and is not of this sync"))
}
