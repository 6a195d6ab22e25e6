#pragma once

#include <algorithm>
#include <cstddef>
#include <exception>
#include <future>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#if defined(BENCH_POOL_ASIO)
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>
#elif defined(BENCH_POOL_TBB)
#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>
#elif defined(BENCH_POOL_RVASER)
#include <thread_pool/thread_pool.hpp>
#elif defined(BENCH_POOL_BS)
#include <BS_thread_pool.hpp>
#elif defined(BENCH_POOL_TASKFLOW)
#include <taskflow/algorithm/for_each.hpp>
#include <taskflow/taskflow.hpp>
#else
#include "peers/std_pool.hpp"
#endif

/// `bench::Pool` is the thread pool that this program was compiled for: `submit(function)` returns a
/// `std::future`, and `map(values, function)` runs over a span as the pool's own documentation would have it.
/// One program for each, because some of them would change the others (allocators, global schedulers).
namespace bench {

/// `map` where the pool has no parallel loop: four chunks a thread, each a submitted task.
template <class Pool, class Function>
void map_by_chunks(Pool& pool, std::size_t workers, std::span<const std::int64_t> from, std::span<double> to,
                   Function function) {
  const std::size_t chunk = std::max<std::size_t>(1, from.size() / (4 * workers));
  std::vector<std::future<void>> parts;
  for (std::size_t at = 0; at < from.size(); at += chunk) {
    const auto end = std::min(from.size(), at + chunk);
    parts.push_back(pool.submit([=] {
      for (std::size_t index = at; index < end; ++index) to[index] = function(from[index]);
    }));
  }
  for (auto& part : parts) part.get();
}

#if defined(BENCH_POOL_ASIO)
/// Boost.Asio: `post(pool, use_future(function))`, as the reference of `use_future` shows.
class Pool {
 public:
  explicit Pool(std::size_t workers) : workers_{workers}, pool_{workers} {}
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() { pool_.join(); }
  template <class Function>
  auto submit(Function function) {
    return boost::asio::post(pool_, boost::asio::use_future(std::move(function)));
  }
  template <class Function>
  void map(std::span<const std::int64_t> from, std::span<double> to, Function function) {
    map_by_chunks(*this, workers_, from, to, function);
  }

 private:
  std::size_t workers_;
  boost::asio::thread_pool pool_;
};

#elif defined(BENCH_POOL_TBB)
/// oneTBB: `task_arena::enqueue` (it has no futures: a `std::promise` each), `parallel_for` for the map. The
/// arena keeps no place for the submitting thread, so all its slots are worker threads; `global_control`
/// allows more threads than cores.
class Pool {
 public:
  explicit Pool(std::size_t workers)
      : allowed_{tbb::global_control::max_allowed_parallelism, workers + 1},
        arena_{static_cast<int>(workers), 0} {
    arena_.initialize();
  }
  template <class Function>
  auto submit(Function function) {
    using Result = std::invoke_result_t<Function>;
    auto promise = std::make_shared<std::promise<Result>>();
    auto future = promise->get_future();
    arena_.enqueue([promise = std::move(promise), function = std::move(function)] {
      try {
        if constexpr (std::is_void_v<Result>) {
          function();
          promise->set_value();
        } else {
          promise->set_value(function());
        }
      } catch (...) {
        promise->set_exception(std::current_exception());
      }
    });
    return future;
  }
  template <class Function>
  void map(std::span<const std::int64_t> from, std::span<double> to, Function function) {
    arena_.execute([=] {
      tbb::parallel_for(tbb::blocked_range<std::size_t>{0, from.size()},
                        [=](const tbb::blocked_range<std::size_t>& part) {
                          for (auto index = part.begin(); index != part.end(); ++index)
                            to[index] = function(from[index]);
                        });
    });
  }

 private:
  tbb::global_control allowed_;
  tbb::task_arena arena_;
};

#elif defined(BENCH_POOL_RVASER)
/// libthread-pool-dev of Debian (R. Vaser): a queue for each thread, tasks are stolen; `Submit`.
class Pool {
 public:
  explicit Pool(std::size_t workers) : workers_{workers}, pool_{workers} {}
  template <class Function>
  auto submit(Function function) {
    return pool_.Submit(std::move(function));
  }
  template <class Function>
  void map(std::span<const std::int64_t> from, std::span<double> to, Function function) {
    map_by_chunks(*this, workers_, from, to, function);
  }

 private:
  std::size_t workers_;
  thread_pool::ThreadPool pool_;
};

#elif defined(BENCH_POOL_BS)
/// BS::thread_pool: `submit_task`, and `submit_loop` with its default number of blocks for the map.
class Pool {
 public:
  explicit Pool(std::size_t workers) : pool_{workers} {}
  template <class Function>
  auto submit(Function function) {
    return pool_.submit_task(std::move(function));
  }
  template <class Function>
  void map(std::span<const std::int64_t> from, std::span<double> to, Function function) {
    pool_
        .submit_loop(std::size_t{0}, from.size(),
                     [=](std::size_t index) { to[index] = function(from[index]); })
        .get();
  }

 private:
  BS::light_thread_pool pool_;
};

#elif defined(BENCH_POOL_TASKFLOW)
/// Taskflow: `Executor::async`, which returns a future; `for_each_index` for the map.
class Pool {
 public:
  explicit Pool(std::size_t workers) : executor_{workers} {}
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() { executor_.wait_for_all(); }
  template <class Function>
  auto submit(Function function) {
    return executor_.async(std::move(function));
  }
  template <class Function>
  void map(std::span<const std::int64_t> from, std::span<double> to, Function function) {
    tf::Taskflow flow;
    flow.for_each_index(std::size_t{0}, from.size(), std::size_t{1},
                        [=](std::size_t index) { to[index] = function(from[index]); });
    executor_.run(flow).wait();
  }

 private:
  tf::Executor executor_;
};

#else
class Pool {
 public:
  explicit Pool(std::size_t workers) : workers_{workers}, pool_{workers} {}
  template <class Function>
  auto submit(Function function) {
    return pool_.submit(std::move(function));
  }
  template <class Function>
  void map(std::span<const std::int64_t> from, std::span<double> to, Function function) {
    map_by_chunks(*this, workers_, from, to, function);
  }

 private:
  std::size_t workers_;
  StdPool pool_;
};
#endif

}  // namespace bench
