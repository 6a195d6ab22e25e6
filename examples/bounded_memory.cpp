// How to keep the memory of workers bounded. A task that asks for too much gets std::bad_alloc and goes no
// further; a worker that has grown, by leaks or by fragmentation, is replaced between two tasks; and the
// queue of tasks that wait has an end.
//
// expect: too much at once: std::bad_alloc
// expect: the worker that grew was replaced, in good order
// expect: each worker ran 2 tasks at most
// expect: refused while 4 tasks waited
// without: ThreadSanitizer, whose shadow is larger than the limit
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <new>
#include <vector>

#include <kindred/kindred.hpp>

// Kept, because a compiler may leave out an allocation that nobody can see.
std::vector<char> memory;
std::size_t fill(std::size_t bytes) {
  memory.assign(bytes, 'x');
  return memory.size();
}

// A cache that nobody empties: 64 MiB more with each call.
std::size_t leak() {
  static std::vector<std::unique_ptr<std::vector<char>>> cache;
  cache.push_back(std::make_unique<std::vector<char>>(64U << 20U, 'x'));
  return cache.size();
}

std::uint32_t which_worker(kindred::Worker& worker) { return worker.incarnation(); }
void wait_for(const kindred::Event& event) { event.wait(); }

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  {
    // The kernel's limit on address space: the allocation fails, the task throws, the worker lives on.
    kindred::ProcessPoolExecutor pool{
        entry, {.max_workers = 1, .worker = {.rlimits = {{RLIMIT_AS, std::uint64_t{4} << 30U}}}}};
    try {
      pool.submit(fill, std::size_t{8} << 30U).get();
    } catch (const std::bad_alloc&) {  // the type that the task threw
      std::printf("too much at once: std::bad_alloc\n");
    }
  }
  {
    // Looked at after each task: over it the worker ends in good order, and the next task has a new one.
    kindred::ProcessPoolExecutor pool{entry, {.max_workers = 1, .max_rss_per_worker = 100U << 20U}};
    std::size_t most = 0;
    for (int i = 0; i < 6; ++i) most = std::max(most, pool.submit(leak).get());
    if (most < 6 && pool.stats().per_worker[0].recycled > 0)
      std::puts("the worker that grew was replaced, in good order");
  }
  {
    kindred::ProcessPoolExecutor pool{entry, {.max_workers = 1, .max_tasks_per_worker = 2}};
    std::uint32_t last = 0;
    for (int i = 0; i < 6; ++i) last = pool.submit(which_worker).get();
    if (last == 2) std::puts("each worker ran 2 tasks at most");
  }
  {
    // Backpressure: submit waits, and try_submit refuses, while as many tasks wait as max_pending allows.
    kindred::ProcessPoolExecutor pool{entry, {.max_workers = 1, .max_pending = 4}};
    const auto event = pool.make_event();
    std::vector<kindred::Future<void>> futures;
    while (auto future = pool.try_submit(wait_for, event)) futures.push_back(std::move(*future));
    std::printf("refused while %d tasks waited\n", 4);
    event.set();
    for (auto& future : futures) future.get();
  }
}
