// SPDX-License-Identifier: GPL-2.0-or-later
#include "dirtylog/disk_log.h"

#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <atomic>
#include <cstdarg>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/errno.h"
#include "base/fiber.h"
#include "base/thread.h"
#include "base/uuid.h"
#include "dirtylog/store_check.h"
#include "dirtylog/store_dir.h"
#include "dirtylog/store_files.h"
#include "dirtylog/tail_file.h"

namespace mirrorfs {
namespace {

// Keys: 'm' and a name for what the store says of itself, 'r' and the encoded
// region key for a record. A disk format; a change raises kFormat.
constexpr char kFormat[] = "1";
constexpr char kMetaPrefix = 'm';
constexpr char kRecordPrefix = 'r';
constexpr char kMetaFormat[] = "mformat";
constexpr char kMetaMirror[] = "mmirror";
constexpr char kMetaLog[] = "mlog";
constexpr char kMetaRegionBytes[] = "mregion-bytes";
// The session of the last opening, and the one that its caller had noted.
constexpr char kMetaSession[] = "msession";
constexpr char kMetaNoted[] = "mnoted-session";
constexpr char kMetaNumber[] = "mnumber";

constexpr size_t kMiB = size_t{1} << 20;

rocksdb::Slice ToSlice(absl::string_view text) {
  return rocksdb::Slice(text.data(), text.size());
}

absl::Status Untrusted(absl::string_view dir, absl::string_view reason) {
  return absl::DataLossError(absl::StrCat(dir, ": ", reason));
}

// What RocksDB says of a damaged store is DataLoss; what it says of a disk
// that does not let it work is not.
absl::Status FromRocksDb(const rocksdb::Status& status, absl::string_view dir) {
  if (status.ok()) return absl::OkStatus();
  const std::string text = absl::StrCat(dir, ": ", status.ToString());
  // It has no word for a quota but the text of the error.
  // It is busy when it tries by itself whether there is space again.
  if (status.IsNoSpace() || status.IsBusy() ||
      absl::StrContains(text, ErrnoText(Errno(EDQUOT)))) {
    return absl::ResourceExhaustedError(text);
  }
  const bool lost_file = status.IsIOError() && status.IsPathNotFound();
  if (status.IsIOError() && !lost_file) return absl::UnavailableError(text);
  return absl::DataLossError(text);
}

// A store that does not answer says nothing about the marks in it.
absl::Status AsUnavailable(const absl::Status& status, absl::string_view dir) {
  if (!absl::IsDeadlineExceeded(status)) return status;
  return absl::UnavailableError(absl::StrCat(dir, ": does not answer"));
}

absl::Status GivenUp() { return absl::DeadlineExceededError("given up"); }

class NullLogger final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char* format, va_list arguments) override {}
};

rocksdb::Options OpenOptions(rocksdb::Env* env, bool create) {
  rocksdb::Options options;
  options.env = env;
  options.create_if_missing = create;
  options.error_if_exists = create;
  options.paranoid_checks = true;
  // The default, point in time, silently forgets synced marks that come after
  // a damaged one.
  options.wal_recovery_mode =
      rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  options.track_and_verify_wals_in_manifest = true;
  options.verify_sst_unique_id_in_manifest = true;
  options.info_log = std::make_shared<NullLogger>();
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.skip_stats_update_on_db_open = true;
  // Memory is what answers; the store is read once, and is small.
  options.write_buffer_size = 4 * kMiB;
  options.max_open_files = 16;
  options.max_background_jobs = 2;
  options.compression = rocksdb::kNoCompression;
  options.avoid_flush_during_shutdown = true;
  rocksdb::BlockBasedTableOptions table;
  table.no_block_cache = true;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

}  // namespace

bool CheckStore(const std::string& dir) {
  const std::unique_ptr<rocksdb::Env> env = NewStoreEnv();
  rocksdb::DB* opened = nullptr;
  const rocksdb::Status status = rocksdb::DB::OpenForReadOnly(
      OpenOptions(env.get(), /*create=*/false), StoreDbPath(dir), &opened);
  const std::unique_ptr<rocksdb::DB> db(opened);
  return status.ok();
}

// RocksDB and the tail file, as one thing that takes numbered batches.
class DiskLog::Db {
 public:
  static absl::StatusOr<std::unique_ptr<Db>> Create(
      const DiskLogOptions& options);
  static absl::StatusOr<std::unique_ptr<Db>> OpenExisting(
      const DiskLogOptions& options);

  // Stores `session` as the current one.
  absl::Status BeginSession(const std::string& session,
                            const std::string& noted);
  absl::Status Load(std::vector<Loaded>& loaded);
  absl::Status Write(rocksdb::WriteBatch& batch, bool durable);

 private:
  Db(std::string dir, TailFile tail)
      : dir_(std::move(dir)), room_(dir_), tail_(std::move(tail)) {}

  static absl::StatusOr<std::unique_ptr<Db>> CreateIn(
      const DiskLogOptions& options);
  absl::Status Open(bool create);
  absl::Status WriteIdentity(const DiskLogOptions& options);
  absl::Status CheckIdentity(const DiskLogOptions& options);
  absl::Status CheckSession(const std::string& expected);
  absl::Status CheckNumber();
  absl::StatusOr<std::string> Get(absl::string_view key);

  const std::string dir_;
  const StoreRoom room_;  // outlives what needs it
  TailFile tail_;
  uint64_t number_ = 0;
  bool failed_ = false;
  const std::unique_ptr<rocksdb::Env> env_ = NewStoreEnv();
  std::unique_ptr<rocksdb::DB> db_;
};

absl::StatusOr<std::unique_ptr<DiskLog::Db>> DiskLog::Db::Create(
    const DiskLogOptions& options) {
  if (absl::Status made = MakeStoreDir(options.place.dir); !made.ok())
    return made;
  absl::StatusOr<std::unique_ptr<Db>> db = CreateIn(options);
  // Where there is no space for it, labels may need what it took.
  if (!db.ok()) RemoveStoreDir(options.place.dir);
  return db;
}

absl::StatusOr<std::unique_ptr<DiskLog::Db>> DiskLog::Db::CreateIn(
    const DiskLogOptions& options) {
  absl::StatusOr<TailFile> tail =
      TailFile::Create(StoreTailPath(options.place.dir), options.log_uuid);
  if (!tail.ok()) return tail.status();
  std::unique_ptr<Db> db(new Db(options.place.dir, *std::move(tail)));
  absl::Status status = db->Open(/*create=*/true);
  if (status.ok()) status = db->WriteIdentity(options);
  if (status.ok()) status = SyncStoreDir(options.place.dir);
  if (!status.ok()) return status;
  return db;
}

absl::StatusOr<std::unique_ptr<DiskLog::Db>> DiskLog::Db::OpenExisting(
    const DiskLogOptions& options) {
  if (absl::Status there = CheckStoreDir(options.place.dir); !there.ok()) {
    return there;
  }
  absl::StatusOr<TailFile> tail =
      TailFile::Open(StoreTailPath(options.place.dir), options.log_uuid);
  if (!tail.ok()) return tail.status();
  absl::Status status;
  if (options.check_apart) status = CheckStoreApart(options.place.dir);
  if (!status.ok()) return status;
  std::unique_ptr<Db> db(new Db(options.place.dir, *std::move(tail)));
  status = db->Open(/*create=*/false);
  if (status.ok()) status = db->CheckIdentity(options);
  if (status.ok()) status = db->CheckSession(options.expected_session);
  if (status.ok()) status = db->CheckNumber();
  if (!status.ok()) return status;
  return db;
}

absl::Status DiskLog::Db::Open(bool create) {
  rocksdb::DB* db = nullptr;
  const rocksdb::Status status = rocksdb::DB::Open(
      OpenOptions(env_.get(), create), StoreDbPath(dir_), &db);
  db_.reset(db);
  room_.TakeIfAmple();
  return FromRocksDb(status, dir_);
}

absl::Status DiskLog::Db::WriteIdentity(const DiskLogOptions& options) {
  rocksdb::WriteBatch batch;
  batch.Put(kMetaFormat, kFormat);
  batch.Put(kMetaMirror, options.mirror_uuid);
  batch.Put(kMetaLog, options.log_uuid);
  batch.Put(kMetaRegionBytes, absl::StrCat(options.region_bytes));
  return Write(batch, /*durable=*/true);
}

absl::Status DiskLog::Db::CheckIdentity(const DiskLogOptions& options) {
  const struct {
    const char* key;
    std::string expected;
    const char* what;
  } checks[] = {
      {kMetaFormat, kFormat, "format"},
      {kMetaMirror, options.mirror_uuid, "mirror uuid"},
      {kMetaLog, options.log_uuid, "log uuid"},
      {kMetaRegionBytes, absl::StrCat(options.region_bytes), "region size"},
  };
  for (const auto& check : checks) {
    const absl::StatusOr<std::string> found = Get(check.key);
    if (!found.ok()) return found.status();
    if (*found == check.expected) continue;
    return Untrusted(dir_, absl::StrCat("the dirty log has ", check.what, " ",
                                        *found, ", expected ", check.expected));
  }
  return absl::OkStatus();
}

// The caller may have crashed between our storing a session and its noting it.
// Nothing was marked in such a session, so the one noted before is as good.
absl::Status DiskLog::Db::CheckSession(const std::string& expected) {
  for (const char* key : {kMetaSession, kMetaNoted}) {
    const absl::StatusOr<std::string> found = Get(key);
    if (!found.ok()) return found.status();
    if (*found == expected) return absl::OkStatus();
  }
  return Untrusted(dir_, "the dirty log does not know the last session");
}

absl::Status DiskLog::Db::CheckNumber() {
  const absl::StatusOr<std::string> found = Get(kMetaNumber);
  if (!found.ok()) return found.status();
  if (!absl::SimpleAtoi(*found, &number_)) {
    return Untrusted(dir_, "the dirty log's batch number is damaged");
  }
  if (number_ >= tail_.number()) return absl::OkStatus();
  return Untrusted(dir_, absl::StrCat("the dirty log lost batches ",
                                      number_ + 1, " to ", tail_.number()));
}

absl::StatusOr<std::string> DiskLog::Db::Get(absl::string_view key) {
  std::string value;
  const rocksdb::Status status =
      db_->Get(rocksdb::ReadOptions(), ToSlice(key), &value);
  if (status.IsNotFound()) {
    return Untrusted(dir_,
                     absl::StrCat("the dirty log lacks its ", key.substr(1)));
  }
  if (!status.ok()) return FromRocksDb(status, dir_);
  return value;
}

absl::Status DiskLog::Db::BeginSession(const std::string& session,
                                       const std::string& noted) {
  rocksdb::WriteBatch batch;
  batch.Put(kMetaSession, session);
  batch.Put(kMetaNoted, noted);
  return Write(batch, /*durable=*/true);
}

absl::Status DiskLog::Db::Load(std::vector<Loaded>& loaded) {
  // After a failed write RocksDB takes no more until told to try again.
  if (failed_) {
    absl::Status status = FromRocksDb(db_->Resume(), dir_);
    if (!status.ok()) return status;
    failed_ = false;
  }
  const std::unique_ptr<rocksdb::Iterator> at(
      db_->NewIterator(rocksdb::ReadOptions()));
  for (at->SeekToFirst(); at->Valid(); at->Next()) {
    const absl::string_view key(at->key().data(), at->key().size());
    if (!key.empty() && key.front() == kMetaPrefix) continue;
    std::optional<RegionKey> region;
    if (!key.empty() && key.front() == kRecordPrefix) {
      region = DecodeRegionKey(key.substr(1));
    }
    const std::optional<RegionRecord> record = DecodeRegionRecord(
        absl::string_view(at->value().data(), at->value().size()));
    if (!region || !record || record->clean()) {
      return Untrusted(dir_, "the dirty log holds a damaged record");
    }
    loaded.push_back({*std::move(region), *record});
  }
  return FromRocksDb(at->status(), dir_);
}

absl::Status DiskLog::Db::Write(rocksdb::WriteBatch& batch, bool durable) {
  const uint64_t number = number_ + durable;
  if (durable) batch.Put(kMetaNumber, absl::StrCat(number));
  rocksdb::WriteOptions options;
  options.sync = durable;
  absl::Status status = FromRocksDb(db_->Write(options, &batch), dir_);
  if (status.ok() && durable) {
    number_ = number;
    status = tail_.Write(number);
  }
  failed_ = !status.ok();
  return status;
}

DiskLog::DiskLog(const DiskLogOptions& options, OpenStore store,
                 std::string session)
    : CoreLog(options.region_bytes),
      options_(options),
      session_(std::move(session)),
      store_(std::move(store)) {}

DiskLog::~DiskLog() { Close(std::move(store_)); }

absl::StatusOr<DiskLog::OpenStore> DiskLog::OpenOne(
    const DiskLogOptions& options, const std::string& session) {
  OpenStore store;
  const std::string& dir = options.place.dir;
  store.target = options.place.target;
  if (store.target == nullptr) store.target = std::make_shared<CallTarget>(dir);
  using SharedDb = std::shared_ptr<Db>;
  absl::StatusOr<SharedDb> db =
      MakeCall(*store.target, [options, session]() -> absl::StatusOr<SharedDb> {
        const std::string& noted = options.expected_session;
        absl::StatusOr<std::unique_ptr<Db>> db =
            noted.empty() ? Db::Create(options) : Db::OpenExisting(options);
        if (!db.ok()) return db.status();
        absl::Status status = (*db)->BeginSession(session, noted);
        if (!status.ok()) return status;
        return SharedDb(*std::move(db));
      });
  if (!db.ok()) return AsUnavailable(db.status(), dir);
  store.db = *std::move(db);
  return store;
}

void DiskLog::Close(OpenStore store) {
  // A call that times out may be about to close it at the same moment, so it is
  // for whoever takes it first.
  struct Last {
    std::shared_ptr<Db> db;
    std::atomic<bool> taken{false};
  };
  const auto last = std::make_shared<Last>();
  last->db = std::move(store.db);
  const absl::Status closed = MakeCall(*store.target, [last] {
    if (!last->taken.exchange(true)) last->db = nullptr;
    return absl::OkStatus();
  });
  if (closed.ok() || last->taken.exchange(true)) return;
  // Another call to it hangs; so would this one.
  store.target->BeginLateCall();
  try {
    StartThread("late-close", [last, target = store.target] {
      last->db = nullptr;
      target->EndLateCall();
    }).detach();
  } catch (const std::system_error&) {
    new std::shared_ptr<Db>(std::move(last->db));  // never closed, then
  }
}

// It may still write, and must not be asked for more meanwhile.
void DiskLog::GiveUp() {
  Close(std::exchange(store_, OpenStore{store_.target, nullptr}));
}

std::string DiskLog::Status(StatusKind kind) {
  std::string dir;
  {
    std::lock_guard lock(place_mutex_);
    dir = options_.place.dir;
  }
  if (kind == StatusKind::kTable) {
    return absl::StrCat("disk 2 ", dir, " ", GetRegionSize());
  }
  return absl::StrCat("3 disk ", dir, " ", std::string(1, Health()));
}

absl::Status DiskLog::Load(std::vector<Loaded>& loaded) {
  using Records = std::vector<Loaded>;
  if (store_.db == nullptr) return AsUnavailable(GivenUp(), options_.place.dir);
  absl::StatusOr<Records> found =
      MakeCall(*store_.target, [db = store_.db]() -> absl::StatusOr<Records> {
        Records found;
        absl::Status status = db->Load(found);
        if (!status.ok()) return status;
        return found;
      });
  if (absl::IsDeadlineExceeded(found.status())) GiveUp();
  if (!found.ok()) return AsUnavailable(found.status(), options_.place.dir);
  loaded = *std::move(found);
  return absl::OkStatus();
}

absl::Status DiskLog::Store(const std::vector<Change>& batch, bool durable) {
  rocksdb::WriteBatch writes;
  for (const Change& change : batch) {
    const std::string key =
        absl::StrCat(std::string(1, kRecordPrefix), change.key);
    if (change.record) {
      writes.Put(key, EncodeRegionRecord(*change.record));
    } else {
      writes.Delete(key);
    }
  }
  if (store_.db == nullptr) return AsUnavailable(GivenUp(), options_.place.dir);
  const absl::Status status =
      MakeCall(*store_.target,
               [db = store_.db, writes = std::move(writes), durable]() mutable {
                 return db->Write(writes, durable);
               });
  if (absl::IsDeadlineExceeded(status)) GiveUp();
  return AsUnavailable(status, options_.place.dir);
}

absl::StatusOr<std::string> DiskLog::Rebind(const StorePlace& place,
                                            const std::string& log_uuid) {
  DiskLogOptions options = options_;
  options.place = place;
  options.log_uuid = log_uuid;
  options.expected_session.clear();
  const std::string session = NewUuid();
  // One store at a time in a directory.
  if (place.dir == options_.place.dir) {
    GiveUp();
  }
  absl::StatusOr<OpenStore> store = OpenOne(options, session);
  if (!store.ok()) return store.status();
  Close(std::exchange(store_, *std::move(store)));
  std::lock_guard lock(place_mutex_);
  options_ = options;
  return session;
}

absl::StatusOr<std::unique_ptr<DiskLog>> OpenDiskLog(
    const DiskLogOptions& options) {
  const std::string session = NewUuid();
  absl::StatusOr<DiskLog::OpenStore> store = DiskLog::OpenOne(options, session);
  if (!store.ok()) return store.status();
  return std::unique_ptr<DiskLog>(
      new DiskLog(options, *std::move(store), session));
}

}  // namespace mirrorfs
