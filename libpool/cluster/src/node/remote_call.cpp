#include "node/remote_call.hpp"

#include <chrono>
#include <mutex>
#include <string>

#include <cxxabi.h>
#include <fmt/format.h>

#include "kindred/error.hpp"
#include "kindred/internal/code_reference.hpp"
#include "kindred/internal/exception_codec.hpp"
#include "kindred/internal/foreign_task.hpp"
#include "kindred/internal/modules.hpp"
#include "kindred/internal/segment.hpp"
#include "kindred/internal/task_entry.hpp"

namespace kindred::internal {
namespace {

/// The function of this process that a call from the head names.
struct Target {
  EntryInfo entry;
  const void* function = nullptr;
};

/// Is the address in a part of the program that is run?
bool is_code(const void* at) noexcept { return is_loaded(at, 1, false) && !is_loaded(at, 1, true); }

[[noreturn]] void refuse(const char* what) {
  throw UsageError{std::string{"a call from the head names "} + what +
                   ". Head and node must run the same build of the program."};
}

// Any program that can publish in the cluster may have written the bytes of a call. What they name is
// checked: the entry is a constant of a loaded module that leads to code, and the function is code.
Target resolve(const RemoteCall& call) {
  static std::mutex mutex;
  static CodeMap map;
  const std::scoped_lock lock{mutex};
  static const bool program_known = [] {
    map.add(0, loaded_modules().front(), false);
    return true;
  }();
  static_cast<void>(program_known);
  for (const RemoteModule& module : call.modules) {
    if (module.index < 2) refuse("a library by the number of the program");
    Module wanted;
    wanted.path = module.path;
    wanted.build_id = module.build_id;
    map.add(std::size_t{module.index} - 1, std::move(wanted), call.load_libraries);
  }
  Target target;
  const void* const entry = map.resolve(call.entry);
  if (reinterpret_cast<std::uintptr_t>(entry) % alignof(EntryInfo) != 0 ||
      !copy_constant(entry, &target.entry, sizeof target.entry) ||
      !is_code(reinterpret_cast<const void*>(target.entry.run)))
    refuse("an entry that is none");
  if (call.function != 0) {
    target.function = map.resolve(call.function);
    if (!is_code(target.function)) refuse("a function that is none");
  }
  return target;
}

struct Output {
  std::vector<std::byte> bytes = std::vector<std::byte>(1024);
  Encoder encoder{ContextId{}, bytes, &grow, this};

  static std::span<std::byte> grow(void* self, std::span<const std::byte> written, std::size_t more) {
    auto& bytes = static_cast<Output*>(self)->bytes;
    bytes.resize(std::max(2 * written.size(), written.size() + more));
    return bytes;
  }
};

void call_plainly(Worker& worker, const RemoteCall& call) {
  const Target target = resolve(call);
  Decoder arguments{ContextId{}, call.arguments};
  Output output;
  TaskFrame frame{arguments, output.encoder, worker, target.function};
  target.entry.run(frame);
}

// A map's chunk says here how far it came; nobody reads it, because a chunk whose worker dies is lost as a
// whole.
ItemProgress unread_progress;
std::int64_t send_nothing(void*, const std::byte*) noexcept { return 0; }

// While a task of the head's runs, `Worker` tells of it.
class RunningForeignTask {
 public:
  explicit RunningForeignTask(const RemoteCall& call)
      : task_{.id = call.task,
              .attempts_before = call.attempts_before,
              .idempotency_key = fmt::format("{:016x}.{}", call.job, call.task)} {
    set_foreign_task(&task_);
  }
  RunningForeignTask(const RunningForeignTask&) = delete;
  RunningForeignTask& operator=(const RunningForeignTask&) = delete;
  ~RunningForeignTask() { set_foreign_task(nullptr); }

 private:
  ForeignTask task_;
};

}  // namespace

// The forced unwind has no object: see run_task in exception_codec.hpp.
__attribute__((no_sanitize("null", "alignment"))) RemoteEnd run_remote(Worker& worker,
                                                                       const RemoteCall& call) {
  RemoteEnd end;
  end.worker = worker.index();
  end.pid = worker.pid();
  end.incarnation = worker.incarnation();
  end.attempt = worker.attempt();
  const Target target = resolve(call);
  Decoder arguments{ContextId{}, call.arguments};
  Output output;
  TaskFrame frame{arguments, output.encoder, worker, target.function};
  frame.items = &unread_progress;
  frame.send_block = &send_nothing;
  const RunningForeignTask as_submitted{call};
  const auto begun = std::chrono::steady_clock::now();
  try {
    target.entry.run(frame);
  } catch (abi::__forced_unwind&) {
    throw;
  } catch (const ThrowWitness&) {  // never: it notes the stack
    throw;
  } catch (...) {
    end.threw = true;
    output.encoder.truncate(0);
    encode_exception(output.encoder, std::current_exception(), frame.phase);
  }
  end.ran_ns =
      std::max<std::int64_t>(1, std::chrono::nanoseconds{std::chrono::steady_clock::now() - begun}.count());
  output.bytes.resize(output.encoder.size());
  end.bytes = std::move(output.bytes);
  return end;
}

void run_remote_initializer(Worker& worker, const RemoteCall& call, SharedArray<std::uint8_t> ready) {
  if (call.entry != 0) call_plainly(worker, call);
  ready[0] = 1;
}

void run_remote_finalizer(Worker& worker, const RemoteCall& call) { call_plainly(worker, call); }

}  // namespace kindred::internal
