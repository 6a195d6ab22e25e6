#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "dispatch/dispatcher.hpp"
#include "dispatch/load.hpp"
#include "dispatch/result_intake.hpp"
#include "kindred/executor_options.hpp"
#include "link/bells.hpp"
#include "link/call_writer.hpp"
#include "link/idle_memory.hpp"
#include "link/lifecycle_log.hpp"
#include "link/worker_control.hpp"
#include "link/worker_slots.hpp"
#include "pool/surroundings.hpp"
#include "supervise/burial.hpp"
#include "supervise/ending.hpp"
#include "supervise/limit_keeper.hpp"
#include "supervise/starter.hpp"
#include "supervise/supervisor.hpp"
#include "supervise/supervisor_poll.hpp"
#include "supervise/worker_health.hpp"
#include "task/backpressure.hpp"
#include "task/completion.hpp"
#include "task/pool_guard.hpp"
#include "task/shared_options.hpp"
#include "task/task_store.hpp"
#include "wait/cores.hpp"
#include "wait/waiters.hpp"
#include "watch/watch_notes.hpp"

// The rooms of a pool: which objects there are, and which of the rooms below each of them knows. In each,
// member order is shutdown order, backwards.
namespace kindred::internal {

/// What exists before any room: see `PoolCore`, which has it.
struct Ground {
  const ExecutorOptions& options;
  const Surroundings& surroundings;
  const Call& initializer;
  std::uint32_t parent_pid;
  bool light_side;  ///< what `register_light_side` said
  unsigned usable_cpus;
  double ticks_a_nanosecond;
  Context& context;
  Collector& collector;
  SharedObjectRegistry& shared_objects;
};

/// Tasks and the lock that guards them.
struct TaskRoom {
  TaskRoom(const Ground& ground, PoolEvents& events)
      : callbacks{[this] { check_all_ended(); }},
        mutex{ground.light_side, callbacks,
              [&collector = ground.collector](std::uint64_t task) { collector.release_flight(task); }},
        backpressure{static_cast<std::size_t>(ground.options.max_pending.value())},
        completion{ground.context.shared_code(),
                   ground.options.log.flight_recorder.has_value(),
                   phase,
                   pending,
                   mutex.deferred(),
                   callbacks,
                   events} {}

  TaskStore cells;
  LatestOptions latest_options;
  PoolPhase phase;
  CallbackRunner callbacks;
  PoolMutex mutex;
  PendingTasks pending;
  Backpressure backpressure;
  Completion completion;

 private:
  // The last callback has run.
  void check_all_ended() {
    PoolGuard guard{mutex};
    completion.check_all_ended(guard);
  }
};

/// Workers, each as the parent knows it.
struct LinkRoom {
  LinkRoom(const Ground& ground, TaskRoom& tasks, PoolEvents& events, std::function<void()> wake_supervisor)
      : control{ground.light_side, ground.options.shutdown_grace, ground.surroundings.clock, slots},
        idle_memory{slots, control, tasks.cells, std::move(wake_supervisor)},
        log{{.level = [&collector = ground.collector] { return collector.level(); },
             .emit = [&collector =
                          ground.collector](LogRecord record) { collector.emit(std::move(record)); }},
            ground.parent_pid,
            ground.context.shared_code()},
        writer{ground.context.code(),
               ground.surroundings.clock,
               idle_memory.call_blocks(),
               static_cast<std::uint64_t>(ground.options.max_tasks_per_worker.value()),
               slots,
               control,
               bells,
               tasks.completion,
               events} {}

  WorkerSlots slots;
  Bells bells;
  WorkerControl control;
  IdleMemory idle_memory;
  LifecycleLog log;
  CallWriter writer;
};

/// Which worker gets a task, and how its result comes in.
struct DispatchRoom {
  DispatchRoom(const Ground& ground, TaskRoom& tasks, LinkRoom& links, PoolEvents& events)
      : notes{watch, ground.context.code(), ground.ticks_a_nanosecond},
        load{ground.ticks_a_nanosecond, tasks.completion},
        intake{ground.context.id(),
               ground.surroundings.clock,
               links.log,
               links.slots,
               links.control,
               load,
               tasks.completion,
               tasks.pending,
               notes},
        dispatcher{{ground.surroundings.clock, links.slots, links.control, links.bells, load, links.writer,
                    intake, tasks.pending, tasks.completion, tasks.phase, tasks.backpressure, events},
                   {.tells_of_idleness = ground.options.idle_timeout.has_value(),
                    .start_all = ground.options.start_all,
                    .cores = ground.usable_cpus}} {}

  PoolWatch watch;
  WatchNotes notes;
  Load load;
  ResultIntake intake;
  Dispatcher dispatcher;
};

/// Threads that wait for results.
struct WaitRoom {
  WaitRoom(const Ground& ground, TaskRoom& tasks, LinkRoom& links, DispatchRoom& dispatch)
      : cores{ground.usable_cpus, links.slots, dispatch.load},
        waiters{{tasks.mutex, links.slots, links.control, links.bells, dispatch.dispatcher, tasks.completion,
                 cores, [&context = ground.context]() -> const SharedBell& { return context.waiter_bell(); },
                 ground.options.spin}} {}

  Cores cores;
  Waiters waiters;
};

/// Starts, deaths, limits and the end.
struct SuperviseRoom {
  SuperviseRoom(const Ground& ground, TaskRoom& tasks, LinkRoom& links, DispatchRoom& dispatch,
                WaitRoom& wait)
      : limits{ground.options.terminate_grace, links.slots, tasks.pending, dispatch.intake, tasks.completion},
        health{{ground.options, links.slots, links.control, dispatch.intake, tasks.pending, links.log}},
        ending{{tasks.phase, links.slots, dispatch.intake, tasks.completion, tasks.backpressure, links.log,
                ground.shared_objects}},
        starter{{ground.options, ground.surroundings.clock, ground.context, ground.collector, tasks.phase,
                 links.slots, dispatch.dispatcher, tasks.completion, links.log, dispatch.notes, poll, ending,
                 ground.usable_cpus, [&memory = links.idle_memory] { memory.note_freed(); },
                 [this] { supervisor.wake(); }}},
        burial{{ground.options, ground.surroundings.clock, ground.initializer, ground.context,
                ground.collector, ground.shared_objects, tasks.phase, links.slots, dispatch.dispatcher,
                dispatch.intake, tasks.pending, tasks.completion, links.log, dispatch.notes, poll, ending}},
        supervisor{{ground.options,
                    ground.surroundings.clock,
                    ground.surroundings.supervisor_has_thread,
                    tasks.mutex,
                    ground.context,
                    ground.collector,
                    tasks.phase,
                    links.slots,
                    links.control,
                    links.bells,
                    dispatch.dispatcher,
                    tasks.pending,
                    tasks.completion,
                    tasks.backpressure,
                    wait.waiters,
                    links.idle_memory,
                    poll,
                    limits,
                    health,
                    starter,
                    burial,
                    ending}} {}

  SupervisorPoll poll;
  LimitKeeper limits;
  WorkerHealth health;
  Ending ending;
  Starter starter;
  Burial burial;
  Supervisor supervisor;
};

}  // namespace kindred::internal
