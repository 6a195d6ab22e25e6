#pragma once

// kindred: a process pool with logging built in. This header is the table of contents.

// The worker gate, first in main.
#include "kindred/entry.hpp"
// The pool: its options, what it tells of itself.
#include "kindred/executor.hpp"
#include "kindred/executor_options.hpp"
#include "kindred/stats.hpp"
// Tasks: how one is run, its future, what comes of it.
#include "kindred/future.hpp"
#include "kindred/map.hpp"
#include "kindred/map_options.hpp"
#include "kindred/outcome.hpp"
#include "kindred/progress_bar.hpp"
#include "kindred/task_options.hpp"
// In the worker.
#include "kindred/worker.hpp"
// What processes share.
#include "kindred/barrier.hpp"
#include "kindred/channel.hpp"
#include "kindred/counter.hpp"
#include "kindred/event.hpp"
#include "kindred/mutex.hpp"
#include "kindred/semaphore.hpp"
#include "kindred/shared_array.hpp"
// The log.
#include "kindred/executor_logger.hpp"
#include "kindred/log.hpp"
#include "kindred/log_range.hpp"
#include "kindred/log_record.hpp"
#include "kindred/log_scope.hpp"
#include "kindred/logger.hpp"
#include "kindred/read_log.hpp"
#include "kindred/sinks.hpp"
// Errors.
#include "kindred/error.hpp"
#include "kindred/exit_reason.hpp"
#include "kindred/task_error.hpp"
