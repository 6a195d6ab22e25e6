#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace kindred {

/// How one task is run. All members have defaults: name those that matter.
///
///     pool.submit({.name = "resize", .timeout = 5s, .retries = 2}, resize, image);
struct TaskOptions {
  /// For messages and log records; empty: the function's name.
  std::string name = {};
  /// Longest run, counted from the task's begin in the worker (not from submit). Over it the worker is killed
  /// with its subprocesses, and the future fails with `TaskTimeout`; no other task is harmed. Clock:
  /// CLOCK_MONOTONIC.
  std::optional<std::chrono::nanoseconds> timeout = {};
  /// After this long the task's stop token is set: it can end by itself, in good order.
  std::optional<std::chrono::nanoseconds> soft_timeout = {};
  /// Longest wait for a worker, counted from submit; a task that has not begun by then fails with
  /// `TaskTimeout` and never runs.
  std::optional<std::chrono::nanoseconds> queue_timeout = {};
  /// How often the task is run again after its worker was lost or it ran over `timeout`. Only for tasks that
  /// may run twice.
  int retries = 0;
  /// Run again also where the task threw.
  bool retry_exceptions = false;
  /// Higher goes first among those that wait; equal ones in order of submission.
  int priority = 0;

  friend bool operator==(const TaskOptions&, const TaskOptions&) = default;
};

}  // namespace kindred
