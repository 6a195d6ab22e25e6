#pragma once

// Processes that stand in for an executor's workers, so that shared objects are tested without a pool: forked
// from the test, with a number of their own, and given their handles as a message.

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kindred/channel.hpp"
#include "kindred/codec.hpp"
#include "kindred/error.hpp"
#include "kindred/internal/byte_stream.hpp"
#include "kindred/internal/context_life.hpp"
#include "kindred/internal/shared_object_registry.hpp"
#include "kindred/internal/this_process.hpp"
#include "support/test.hpp"

namespace kindred::test::shared {

using namespace std::chrono_literals;

/// What an executor would own.
struct Pool {
  explicit Pool(StartMethod method = StartMethod::spawn)
      : id{kindred::internal::ContextId::make(method)},
        life{std::make_shared<kindred::internal::ContextLife>(id)},
        registry{life} {}
  ~Pool() { life->open = false; }

  kindred::internal::ContextId id;
  std::shared_ptr<kindred::internal::ContextLife> life;
  kindred::internal::SharedObjectRegistry registry;
  std::uint32_t next_owner = 2;
};

/// A message: encoded handles and the memories that go along.
struct Message {
  std::vector<std::byte> bytes;
  kindred::internal::Attachments memories;
};

inline std::span<std::byte> grow_vector(void* vector, std::span<const std::byte> written, std::size_t more) {
  auto& bytes = *static_cast<std::vector<std::byte>*>(vector);
  bytes.resize(written.size() + more + 64);
  return bytes;
}

template <class... Handles>
[[nodiscard]] Message pack(kindred::internal::ContextId context, const Handles&... handles) {
  Message message;
  kindred::internal::Encoder encoder{context, {}, &grow_vector, &message.bytes};
  (kindred::internal::CodecTraits<Handles>::encode(encoder, handles), ...);
  message.bytes.resize(encoder.size());
  message.memories = std::move(encoder.attachments());
  return message;
}

/// Reads a message as the other process does: its memories are adopted anew, from copies of the descriptors.
class Reader {
 public:
  Reader(kindred::internal::ContextId context, const Message& message) : bytes_{message.bytes} {
    for (const auto& memory : message.memories) {
      adopted_.push_back(memory == nullptr ? nullptr
                                           : std::make_shared<kindred::internal::SharedMemory>(
                                                 kindred::internal::SharedMemory::adopt(
                                                     kindred::internal::duplicate(memory->fd()), 1)));
    }
    decoder_ = std::make_unique<kindred::internal::Decoder>(context, bytes_, &adopted_);
  }
  template <class Handle>
  [[nodiscard]] Handle next() {
    return kindred::internal::CodecTraits<Handle>::decode(*decoder_);
  }

 private:
  std::vector<std::byte> bytes_;
  kindred::internal::Attachments adopted_;
  std::unique_ptr<kindred::internal::Decoder> decoder_;
};

template <class Handle>
[[nodiscard]] Handle unpack(kindred::internal::ContextId context, const Message& message) {
  return Reader{context, message}.next<Handle>();
}

/// Memory that all processes of a test share, for what they tell each other. Zeroed.
template <class T>
class Common {
 public:
  Common()
      : value_{static_cast<T*>(
            ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))} {}
  ~Common() { ::munmap(value_, sizeof(T)); }
  Common(const Common&) = delete;
  Common& operator=(const Common&) = delete;
  T* operator->() const noexcept { return value_; }
  T& operator*() const noexcept { return *value_; }

 private:
  T* value_;
};

/// Waits for another process, by the clock only where it does not come.
template <class Condition>
void until(const Condition& condition) {
  const auto end = std::chrono::steady_clock::now() + 30s * slowness();
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) throw std::runtime_error{"waited 30 s in vain"};
    std::this_thread::yield();
  }
}

/// A worker: a fork that runs `body` and exits with 0, with 99 where it throws. Its end is told to the pool
/// once, as the executor does.
class Worker {
 public:
  enum class Traced { no, yes };

  template <class Body>
  Worker(Pool& pool, const Body& body, Traced traced = Traced::no) : pool_{&pool}, owner_{pool.next_owner++} {
    std::fflush(nullptr);
    pid_ = ::fork();
    if (pid_ < 0) throw std::runtime_error{"fork failed"};
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    int code = 0;
    try {
      if (traced == Traced::yes && ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(98);
      kindred::internal::serve_context(pool.id, owner_);
      body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "worker %u: %s\n", owner_, error.what());
      code = 99;
    }
    std::fflush(nullptr);
    ::_exit(code);
  }
  Worker(Worker&& other) noexcept
      : pool_{other.pool_}, owner_{other.owner_}, pid_{std::exchange(other.pid_, -1)} {}
  Worker& operator=(Worker&& other) noexcept {
    if (pid_ > 0) kill();
    pool_ = other.pool_;
    owner_ = other.owner_;
    pid_ = std::exchange(other.pid_, -1);
    return *this;
  }
  ~Worker() {
    if (pid_ > 0) kill();
  }

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  [[nodiscard]] std::uint32_t owner() const noexcept { return owner_; }
  /// Waits until it has ended; returns its wait status.
  int end() {
    const int status = reap();
    tell();
    return status;
  }
  void kill() {
    ::kill(pid_, SIGKILL);
    end();
  }
  /// The two halves of `end`, for who looks at what is between.
  int reap() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {}
    return status;
  }
  void tell() {
    pool_->registry.owner_died(owner_, static_cast<std::int32_t>(owner_) - 2,
                               static_cast<std::uint32_t>(pid_));
    pid_ = -1;
  }

 private:
  Pool* pool_;
  std::uint32_t owner_;
  pid_t pid_ = -1;
};

/// Waits until a thread, or a process of one thread, sleeps in the kernel.
template <class Id>
void until_asleep(Id id) {
  until([&] {
    const auto stat = read_file("/proc/" + std::to_string(id) + "/stat");
    return stat[stat.rfind(')') + 2] == 'S';
  });
}

/// A thread that calls `action`; made when it sleeps in there.
class Sleeper {
 public:
  template <class Action>
  explicit Sleeper(const Action& action) {
    std::atomic<std::uint32_t> id{0};
    thread_ = std::thread{[&id, action] {
      id = kindred::internal::thread_id();
      action();
    }};
    until([&] { return id != 0; });
    until_asleep(id.load());
  }
  void join() { thread_.join(); }
  ~Sleeper() {
    if (thread_.joinable()) thread_.join();
  }
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;

 private:
  std::thread thread_;
};

/// Kills a worker after `steps` instructions of `operation`, which begins when it stops itself; `meanwhile`
/// happens just before. Returns whether it was still within.
template <class Prepare, class Operation, class Meanwhile>
bool kill_after_steps(Pool& pool, long steps, const Prepare& prepare, const Operation& operation,
                      const Meanwhile& meanwhile) {
  Worker worker{pool,
                [&] {
                  auto prepared = prepare();
                  ::raise(SIGSTOP);
                  operation(prepared);
                  ::raise(SIGUSR1);
                },
                Worker::Traced::yes};
  const auto next_stop = [&] {
    int status = 0;
    while (::waitpid(worker.pid(), &status, 0) < 0 && errno == EINTR) {}
    return status;
  };
  int status = next_stop();
  if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGSTOP)
    throw std::runtime_error{"the traced worker did not stop: status " + std::to_string(status)};
  meanwhile();
  bool within = true;
  for (long i = 0; i < steps && within; ++i) {
    ::ptrace(PTRACE_SINGLESTEP, worker.pid(), nullptr, nullptr);
    status = next_stop();
    if (!WIFSTOPPED(status))
      throw std::runtime_error{"the traced worker ended: status " + std::to_string(status)};
    within = WSTOPSIG(status) != SIGUSR1;
  }
  worker.kill();
  return within;
}

template <class Prepare, class Operation>
bool kill_after_steps(Pool& pool, long steps, const Prepare& prepare, const Operation& operation) {
  return kill_after_steps(pool, steps, prepare, operation, [] {});
}

/// Is single-stepping allowed here? (Containers may forbid it; sanitizers make it slow.)
[[nodiscard]] inline bool can_single_step() {
  if (slowness() > 1) return false;
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0 ? 0 : 1);
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace kindred::test::shared
