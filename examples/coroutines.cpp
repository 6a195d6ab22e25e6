// Futures can be awaited. A coroutine that waits holds no thread: it goes on, on the pool's callback thread,
// when the task has ended. `then` and `on_done` say the same in callbacks.
//
// A `LogScope` in a coroutine goes with it: its records have the field on whatever thread it goes on, and
// nobody else's have.
//
// expect: counted {report=7}
// expect: 3 pages, 1234 words, by 4 tasks that nobody blocked for
// expect: coroutine caught: no page 99
// expect: then: 84
#include <coroutine>
#include <exception>
#include <future>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <kindred/kindred.hpp>

// The least that a coroutine needs here: it starts at once, and its end can be waited for from outside. (Any
// coroutine library's task does.)
template <class T>
struct Job {
  struct promise_type {
    std::promise<T> result;
    Job get_return_object() { return {result.get_future()}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_value(T value) { result.set_value(std::move(value)); }
    void unhandled_exception() { result.set_exception(std::current_exception()); }
  };
  std::future<T> end;
};

std::vector<int> list_pages() { return {1, 2, 3}; }
int count_words(int page) {
  if (page > 3) throw std::out_of_range{"no page " + std::to_string(page)};
  return page == 1 ? 1000 : 117;
}

Job<std::string> report(kindred::ProcessPoolExecutor& pool) {
  kindred::LogScope scope{{"report", 7}};
  const std::vector<int> pages = co_await pool.submit(list_pages);
  std::vector<kindred::Future<int>> counts;
  for (const int page : pages) counts.push_back(pool.submit(count_words, page));  // all at once
  int words = 0;
  for (auto& count : counts) words += co_await count;
  kindred::log_info("counted");
  co_return std::to_string(pages.size()) + " pages, " + std::to_string(words) + " words, by " +
      std::to_string(pages.size() + 1) + " tasks that nobody blocked for";
}

Job<std::string> fail(kindred::ProcessPoolExecutor& pool) {
  try {
    co_return std::to_string(co_await pool.submit(count_words, 99));
  } catch (const std::out_of_range& error) {  // the task's own exception, where its value would be
    co_return std::string{dynamic_cast<const kindred::TaskError&>(error).original_what()};
  }
}

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  kindred::ProcessPoolExecutor pool{entry, {.max_workers = 2}};
  pool.logger().add_sink(kindred::sinks::stdout_color());

  Job<std::string> reporting = report(pool), failing = fail(pool);  // both run
  pool.logger().info("{}", reporting.end.get());
  pool.logger().info("coroutine caught: {}", failing.end.get());

  kindred::Future<int> doubled = pool.submit([] { return 42; }).then([](int value) { return value * 2; });
  pool.logger().info("then: {}", doubled.get());
}
