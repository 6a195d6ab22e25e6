#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kindred/codec.hpp"
#include "kindred/internal/exception_codec.hpp"
#include "kindred/internal/future_state.hpp"
#include "kindred/internal/task_entry.hpp"
#include "kindred/log_record.hpp"
#include "kindred/map.hpp"
#include "kindred/task_options.hpp"

namespace kindred::internal {

class ClusterCore;

/// A task of a cluster as its future sees it.
class RemoteTask {
 public:
  explicit RemoteTask(std::shared_ptr<ClusterCore> core) noexcept : core_{std::move(core)} {}
  RemoteTask(const RemoteTask&) = delete;
  RemoteTask& operator=(const RemoteTask&) = delete;

  /// Reads the value and finishes the state. Never throws.
  virtual void take_value(std::span<const std::byte> bytes, std::chrono::nanoseconds ran) noexcept = 0;
  virtual LocalState& state() noexcept = 0;

 protected:
  ~RemoteTask() = default;
  [[nodiscard]] bool ask_running() const;
  bool ask_cancel(Running how);
  void ask_cancel_pending();
  [[nodiscard]] std::vector<LogRecord> ask_log() const;
  /// Call in a handler: the value could not be read.
  void fail_unreadable() noexcept;

  std::shared_ptr<ClusterCore> core_;
  std::uint64_t id_ = 0;  ///< set when it is submitted
  friend class ClusterCore;
};

[[nodiscard]] PoolCore* pool_of(ClusterCore& core) noexcept;

/// What the futures of a cluster share.
template <class T>
class RemoteValue final : public LocalValue<T>, public RemoteTask {
 public:
  explicit RemoteValue(std::shared_ptr<ClusterCore> core)
      : LocalValue<T>{pool_of(*core)}, RemoteTask{std::move(core)} {}

  [[nodiscard]] bool running() const override { return !this->finished() && ask_running(); }
  bool cancel(Running how) override {
    if (!this->finished()) return ask_cancel(how);
    return this->outcome() == Outcome::cancelled;
  }
  [[nodiscard]] std::uint64_t task_id() const noexcept override { return id_; }
  [[nodiscard]] std::vector<LogRecord> log() const override { return ask_log(); }
  LocalState& state() noexcept override { return *this; }
  void take_value([[maybe_unused]] std::span<const std::byte> bytes,
                  std::chrono::nanoseconds) noexcept override {
    try {
      if constexpr (!std::is_void_v<T>) {
        Decoder decoder{ContextId{}, bytes};
        this->value.emplace(decode<T>(decoder));
      }
      this->finish();
    } catch (...) {
      fail_unreadable();
    }
  }
};

/// One call on its way to a cluster: its arguments are encoded first, then it is handed over.
class ClusterSubmission {
 public:
  /// Errors: `UsageError` where the executor is shut down, `BrokenProcessPool`.
  explicit ClusterSubmission(ClusterCore& core);
  ClusterSubmission(const ClusterSubmission&) = delete;
  ClusterSubmission& operator=(const ClusterSubmission&) = delete;

  [[nodiscard]] Encoder& encoder() noexcept { return encoder_; }
  /// Call in a handler: the argument's own serialiser threw. `UsageError` goes on to the caller; anything
  /// else becomes the future's failure.
  void arguments_failed();
  /// `task` is part of `state`. Blocks while too much is open, unless `try_only`: then false.
  bool submit(const EntryInfo& entry, const void* function, const TaskOptions* options,
              const StateHandle& state, RemoteTask& task, bool try_only);

 private:
  static std::span<std::byte> grow(void* self, std::span<const std::byte> written, std::size_t more);

  ClusterCore& core_;
  std::vector<std::byte> bytes_;
  Encoder encoder_;
  std::exception_ptr argument_error_;
};

/// `task` is part of `state`.
void adopt_task(ClusterCore& core, std::uint64_t id, const StateHandle& state, RemoteTask& task);
void check_cluster_options(const TaskOptions& options);

// --- maps

void require_open(ClusterCore& core);

/// A chunk of a map, whose bytes are read by the map.
class RemoteBytes final : public LocalValue<std::vector<std::byte>>, public RemoteTask {
 public:
  explicit RemoteBytes(std::shared_ptr<ClusterCore> core)
      : LocalValue<std::vector<std::byte>>{pool_of(*core)}, RemoteTask{std::move(core)} {}
  bool cancel(Running how) override { return !finished() && ask_cancel(how); }
  void cancel_pending() { ask_cancel_pending(); }  ///< does not wait for a node
  [[nodiscard]] std::uint64_t task_id() const noexcept override { return id_; }
  LocalState& state() noexcept override { return *this; }
  void take_value(std::span<const std::byte> bytes, std::chrono::nanoseconds time) noexcept override {
    try {
      value.emplace(bytes.begin(), bytes.end());
      ran = time;
      finish();
    } catch (...) {
      fail_unreadable();
    }
  }
  std::chrono::nanoseconds ran{0};
};

/// Where the chunks of a cluster's map run: its members are those of `LocalMapHome`.
struct ClusterMapHome {
  using Core = ClusterCore;
  class Reference {
   public:
    explicit Reference(ClusterCore& core);
    [[nodiscard]] ClusterCore& operator*() const noexcept { return *core_; }

   private:
    std::shared_ptr<ClusterCore> core_;
  };
  class Submission {
   public:
    explicit Submission(ClusterCore& core) : core_{core}, submission_{core} {}
    [[nodiscard]] Encoder& encoder() noexcept { return submission_.encoder(); }
    void arguments_failed() { submission_.arguments_failed(); }
    [[nodiscard]] StateHandle submit(const EntryInfo& entry, const void* function,
                                     const TaskOptions* options);

   private:
    ClusterCore& core_;
    ClusterSubmission submission_;
  };
  /// How long a chunk of a map should run: a message to a node and back takes 0.5 ms, an eighth of this.
  static constexpr double chunk_seconds = 0.004;
  /// Larger arguments travel apart from their message.
  static constexpr double chunk_bytes = 128.0 * 1024;

  [[nodiscard]] static PoolCore& pool(ClusterCore& core) noexcept { return *pool_of(core); }
  [[nodiscard]] static std::size_t workers(ClusterCore& core);
  /// All: they run on other machines.
  [[nodiscard]] static std::size_t workers_beside_caller(ClusterCore& core) { return workers(core); }
  /// A chunk is lost as a whole, and so it is run again as a whole.
  [[nodiscard]] static std::unique_ptr<TaskOptions> options_of_chunks(const MapOptions& options);
  [[nodiscard]] static TaskFacts facts(FutureState& state);
  [[nodiscard]] static double seconds(FutureState& state) noexcept {
    return std::chrono::duration<double>(static_cast<RemoteBytes&>(state).ran).count();
  }
  [[nodiscard]] static ValueBytes bytes(FutureState& state) {
    const auto& value = static_cast<RemoteBytes&>(state).value;
    return {value ? std::span<const std::byte>{*value} : std::span<const std::byte>{}, nullptr, ContextId{}};
  }
  /// Which items of a chunk had run when its worker died is not known here: all of them end with it.
  [[nodiscard]] static const ItemsLeft* left(const FutureState&) noexcept { return nullptr; }
  [[nodiscard]] static std::exception_ptr name(const std::exception_ptr& error, std::uint64_t) {
    return error;
  }
  static void cancel(FutureState& state) { static_cast<RemoteBytes&>(state).cancel_pending(); }
};

}  // namespace kindred::internal
