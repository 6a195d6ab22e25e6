// A shared object used by one thread while no other process wants it: processor time of one use.
//   --row mutex            lock and unlock
//   --row counter          add one
//   --row event_is_set     look
//   --row event_set        set what is set
//   --row semaphore        acquire and release
//   --row channel_number   send and receive a long
//   --row channel_text     send and receive a string of 33 characters
//   --row make             make an object and drop it
//   --count uses
#include <functional>
#include <map>

#include "support/pool_options.hpp"
#include "support/processor_time.hpp"

namespace {

/// Uses it that many times, and reports what one of them took.
template <class Use>
void measure(std::size_t count, Use use) {
  for (std::size_t done = 0; done < count / 10; ++done) use();
  const double before = bench::thread_processor_ns();
  for (std::size_t done = 0; done < count; ++done) use();
  bench::report((bench::thread_processor_ns() - before) / static_cast<double>(count), "ns");
}

template <class T>
void pass(std::size_t count, const kindred::Channel<T>& channel, const T& value) {
  measure(count, [&] {
    channel.send(value);
    if (channel.receive() != value) bench::fail("a wrong element");
  });
}

}  // namespace

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const bench::Options options{argc, argv};
  const auto count = options.number("count", 1'000'000);
  kindred::ProcessPoolExecutor pool{entry, bench::warm_pool_options(options, 1)};
  const std::map<std::string, std::function<void()>> rows{
      {"mutex",
       [&] {
         measure(count, [mutex = pool.make_mutex()] {
           mutex.lock();
           mutex.unlock();
         });
       }},
      {"counter", [&] { measure(count, [counter = pool.make_counter()] { ++counter; }); }},
      {"event_is_set",
       [&] {
         measure(count, [event = pool.make_event()] {
           if (event.is_set()) bench::fail("an event that nobody set is set");
         });
       }},
      {"event_set", [&] { measure(count, [event = pool.make_event()] { event.set(); }); }},
      {"semaphore",
       [&] {
         measure(count, [semaphore = pool.make_semaphore(1)] {
           semaphore.acquire();
           semaphore.release();
         });
       }},
      {"channel_number", [&] { pass(count, pool.make_channel<long>(8), 7L); }},
      {"channel_text", [&] { pass(count, pool.make_channel<std::string>(8), std::string(33, 'a')); }},
      {"make", [&] { measure(count, [&pool] { (void)pool.make_counter(); }); }},
  };
  const auto row = rows.find(options.text("row", "mutex"));
  if (row == rows.end()) bench::fail("no such row");
  row->second();
}
