// The log as data. Every record knows its time, level, place in the code, worker, task and fields, whatever
// reads it: a sink that is a function, a range of what is kept, the future of the task that wrote it, or a
// file that is read back.
//
// run: @TEMP@/app.json
// expect: the task 'pay' #1 logged 2 records
// expect: order 17 is paid, reading_the_log.cpp
// expect: amount = 9.5
// expect: warnings of worker 0: order 18 has no amount
// expect: the sink saw 6 records
// expect: the file has 3 debug lines of orders, the last from worker 0
// expect: one of them is a line on stdout
#include <cstdio>
#include <string>
#include <variant>

#include <kindred/kindred.hpp>

void pay(int order, double amount) {
  static const kindred::Logger log{"orders"};
  const kindred::LogScope scope{{"order", order}};  // on every record of this thread, until the scope ends
  if (amount == 0)
    log.warn("order {} has no amount", order);
  else
    log.info("order {} is paid", order, kindred::kv("amount", amount));
  log.debug("done");
  if (amount > 100)
    std::puts("so much!");  // a line on stdout is a record as well, because capture_output is on
}

int main(int argc, char** argv) {
  kindred::Entry entry{argc, argv};
  const std::string file = argc > 1 ? argv[1] : "app.json";
  kindred::ProcessPoolExecutor pool{
      entry, {.max_workers = 1, .worker = {.capture_output = true}, .log = {.level = kindred::Level::debug}}};
  int seen = 0;
  pool.logger().add_sink([&](const kindred::LogRecord& record) { seen += record.logger == "orders"; });
  pool.logger().add_sink(kindred::sinks::json(file));

  const auto paid = pool.submit(pay, 17, 9.5), unpaid = pool.submit(pay, 18, 0.0),
             large = pool.submit(pay, 19, 500.0);
  large.get();
  pool.logger().flush();  // all that was committed before, in any process, is in every sink now

  // What one task said.
  const auto records = paid.log();
  const kindred::LogRecord& first = records.at(0);
  std::printf("the task '%s' #%llu logged %zu records\n", first.task_name.c_str(),
              static_cast<unsigned long long>(paid.task_id()), records.size());
  const std::string_view path = first.source.file;
  std::printf("%s, %s:%u\n", first.message.c_str(), std::string{path.substr(path.rfind('/') + 1)}.c_str(),
              first.source.line);
  for (const kindred::Field& field : first.fields) {
    if (const auto* number = std::get_if<double>(&field.value))
      std::printf("%s = %g\n", field.key.c_str(), *number);
  }

  // What is kept, through conditions that are piped together. (`records()` is the same, live: it goes on
  // until the pool is shut down.)
  for (const auto& record :
       pool.logger().kept_records() | kindred::at_least(kindred::Level::warn) | kindred::of_worker(0)) {
    std::printf("warnings of worker %d: %s\n", record.worker, record.message.c_str());
  }
  std::printf("the sink saw %d records\n", seen);

  // And the file, read back by whichever program.
  int lines = 0;
  kindred::LogRecord last;
  for (const auto& record : kindred::read_log(file) | kindred::since(first.time)) {
    if (record.logger == "orders" && record.level == kindred::Level::debug) last = record, ++lines;
    if (record.origin == kindred::Origin::stdout)
      std::printf("one of them is a line on stdout: %s\n", record.message.c_str());
  }
  std::printf("the file has %d debug lines of orders, the last from worker %d\n", lines, last.worker);
}
