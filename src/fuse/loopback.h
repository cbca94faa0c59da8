// A file system behind its whole protocol and no kernel: Client, packet socket, Session with threads of its own.
// For tests and fuzzers. The destructor disconnects and joins.
// Threads: as Client.
#pragma once

#include <memory>
#include <optional>
#include <thread>

#include "fuse/client.h"
#include "fuse/session.h"

namespace vellum::fuse {

class Loopback {
 public:
  struct Options {
    SessionOptions session = {};
    Client::Hello hello = {};
    unsigned threads = 1;
    bool initialize = true;  // else call client().initialize() yourself
  };

  // `started` tells whether INIT was agreed on.
  explicit Loopback(Filesystem& filesystem) : Loopback(filesystem, Options()) {}
  Loopback(Filesystem& filesystem, Options options);
  ~Loopback();
  Loopback(const Loopback&) = delete;
  Loopback& operator=(const Loopback&) = delete;

  Client& client() { return *client_; }
  Session& session() { return session_; }
  const Result<abi::InitOut>& started() const { return started_; }
  // Disconnects, and gives what Session::run returned. Only once.
  Status finish();

 private:
  Session session_;
  std::unique_ptr<Client> client_;
  Status ended_;
  std::thread thread_;
  Result<abi::InitOut> started_ = fail(ENOTCONN);
};

}  // namespace vellum::fuse
