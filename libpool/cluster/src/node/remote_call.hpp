#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kindred/shared_array.hpp"
#include "kindred/worker.hpp"

// What runs in a node's worker: an ordinary task of the node's own pool, which finds the head's function and
// calls it.
namespace kindred::internal {

struct RemoteModule {
  std::uint16_t index = 0;
  std::string path;
  std::string build_id;
};

/// A call of the head's, as it crosses from the node to its worker.
struct RemoteCall {
  std::uint64_t entry = 0;     ///< a `CodeReference` of the head
  std::uint64_t function = 0;  ///< likewise; 0: the entry knows its function
  std::vector<RemoteModule> modules;
  bool load_libraries = false;
  std::vector<std::byte> arguments;
  std::uint64_t job = 0;
  std::uint64_t task = 0;
  std::uint32_t attempts_before = 0;  ///< this run of the local pool
};

struct RemoteEnd {
  bool threw = false;
  std::vector<std::byte> bytes;  ///< the value, or the exception
  std::int64_t ran_ns = 0;
  std::int32_t worker = -1;
  std::uint32_t pid = 0;
  std::uint32_t incarnation = 0;
  std::uint32_t attempt = 1;
};

/// Runs the task. Errors: `UsageError` where the call names what this program does not have.
RemoteEnd run_remote(Worker& worker, const RemoteCall& call);
/// The initializer of each worker: the head's (where `call.entry` is not 0), then it marks that a worker is
/// ready. Throws what the head's throws.
void run_remote_initializer(Worker& worker, const RemoteCall& call, SharedArray<std::uint8_t> ready);
void run_remote_finalizer(Worker& worker, const RemoteCall& call);

}  // namespace kindred::internal
