// SPDX-License-Identifier: GPL-2.0-or-later
//
// The file system as RocksDB sees it. Its own end of it takes some errors of a
// disk that fails for impossible, and with assertions, as distributions build
// it, ends the process (RocksDB 7.8, env/: FileExists with any errno but EIO
// and ENOMEM; files opened for writing where fstatfs fails). A leg may give any
// error at any moment, so these are done here; the rest is left to RocksDB.
#pragma once

#include <memory>

namespace rocksdb {
class Env;
}

namespace mirrorfs {

// Must outlive the database that is opened with it.
std::unique_ptr<rocksdb::Env> NewStoreEnv();

}  // namespace mirrorfs
