// Ways to get the records of --workers processes into one file, each as its documentation has it (--logger
// NAME):
//   interprocess      Boost.Interprocess: a message_queue of formatted lines, one reader writes them
//   spdlog_append     spdlog in each process on the same file, opened for appending, flushed at each record
//   spdlog_buffered   the same without the flush: faster, and lines are torn where two buffers meet
//   boost_log_ipc     Boost.Log: text_ipc_message_queue_backend in the producers, text_ipc_message_queue in
//   the reader
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <array>
#include <boost/interprocess/ipc/message_queue.hpp>
#include <chrono>
#include <functional>
#include <memory>

#if defined(BENCH_BOOST_LOG)
#include <boost/log/core.hpp>
#include <boost/log/expressions.hpp>
#include <boost/log/sinks/sync_frontend.hpp>
#include <boost/log/sinks/text_ipc_message_queue_backend.hpp>
#include <boost/log/sources/logger.hpp>
#include <boost/log/sources/record_ostream.hpp>
#include <boost/log/support/date_time.hpp>
#include <boost/log/utility/ipc/reliable_message_queue.hpp>
#include <boost/log/utility/setup/common_attributes.hpp>
#endif

#include "floors/shared_block.hpp"
#include "support/log_file.hpp"
#include "support/processor_time.hpp"

namespace {

struct Run {
  const bench::LogFile& file;
  std::size_t count;
  std::size_t workers;

  /// Runs `produce(index)` in each process and `consume` here, and reports.
  void measure(const std::function<void(std::size_t)>& produce,
               const std::function<void(std::FILE*)>& consume, bool torn_allowed = false) const {
    const double processor = bench::processor_ns();
    const double begin = bench::now_ns();
    std::vector<bench::Child> children;
    for (std::size_t index = 0; index < workers; ++index)
      children.emplace_back([&, index] { produce(index); });
    if (consume) {
      std::FILE* out = std::fopen(file.path().c_str(), "a");
      consume(out);
      std::fclose(out);
    }
    for (auto& child : children) child.wait();
    bench::report_records(file, count * workers, {bench::now_ns() - begin, bench::processor_ns() - processor},
                          torn_allowed);
  }
};

void interprocess(const Run& run) {
  namespace ipc = boost::interprocess;
  constexpr std::size_t line_bytes = 256;
  const auto name = "kindred-bench-" + std::to_string(getpid());
  ipc::message_queue queue{ipc::create_only, name.c_str(), 8192, line_bytes};
  run.measure(
      [&](std::size_t index) {
        const std::string text = "customer 4711";
        std::array<char, line_bytes> line{};
        for (std::size_t done = 0; done < run.count; ++done) {
          const auto now =
              std::chrono::time_point_cast<std::chrono::microseconds>(std::chrono::system_clock::now());
          const auto end = fmt::format_to_n(line.data(), line.size(),
                                            "[{:%Y-%m-%d %H:%M:%S}] [info] [w{}] " BENCH_RECORD_FORMAT "\n",
                                            now, index, text, done, 0.25 * static_cast<double>(done));
          queue.send(line.data(), end.size, 0);
        }
      },
      [&](std::FILE* out) {
        std::array<char, line_bytes> line{};
        for (std::size_t taken = 0; taken < run.count * run.workers; ++taken) {
          std::size_t size = 0;
          unsigned priority = 0;
          queue.receive(line.data(), line.size(), size, priority);
          std::fwrite(line.data(), 1, size, out);
        }
      });
  ipc::message_queue::remove(name.c_str());
}

void spdlog_append(const Run& run, bool flush) {
  run.measure(
      [&](std::size_t index) {
        const auto logger = spdlog::basic_logger_mt("worker" + std::to_string(index), run.file.path());
        logger->set_pattern("[%Y-%m-%d %H:%M:%S.%f] [%l] [%n] %v");
        if (flush) logger->flush_on(spdlog::level::info);
        const std::string text = "customer 4711";
        for (std::size_t done = 0; done < run.count; ++done)
          logger->info(BENCH_RECORD_FORMAT, text, done, 0.25 * static_cast<double>(done));
        logger->flush();
      },
      {}, !flush);
}

#if defined(BENCH_BOOST_LOG)
void boost_log_ipc(const Run& run) {
  namespace logging = boost::log;
  using Queue = logging::ipc::reliable_message_queue;
  const logging::ipc::object_name name{logging::ipc::object_name::user,
                                       "kindred-bench-" + std::to_string(getpid())};
  Queue::remove(name);
  Queue queue{logging::keywords::name = name, logging::keywords::open_mode = logging::open_mode::create_only,
              logging::keywords::capacity = 8192, logging::keywords::block_size = 256,
              logging::keywords::overflow_policy = Queue::block_on_overflow};
  run.measure(
      [&](std::size_t index) {
        using Backend = logging::sinks::text_ipc_message_queue_backend<Queue>;
        const auto sink = boost::make_shared<logging::sinks::synchronous_sink<Backend>>(
            logging::keywords::name = name, logging::keywords::open_mode = logging::open_mode::open_only,
            logging::keywords::overflow_policy = Queue::block_on_overflow);
        namespace ex = logging::expressions;
        sink->set_formatter(
            ex::stream << "["
                       << ex::format_date_time<boost::posix_time::ptime>("TimeStamp", "%Y-%m-%d %H:%M:%S.%f")
                       << "] [info] [w" << index << "] " << ex::smessage);
        logging::core::get()->add_sink(sink);
        logging::add_common_attributes();
        logging::sources::logger logger;
        const std::string text = "customer 4711";
        for (std::size_t done = 0; done < run.count; ++done) {
          BOOST_LOG(logger) << text << " ordered " << done << " items for "
                            << 0.25 * static_cast<double>(done) << " euro";
        }
        logging::core::get()->remove_all_sinks();
      },
      [&](std::FILE* out) {
        std::string line;
        for (std::size_t taken = 0; taken < run.count * run.workers; ++taken) {
          line.clear();
          queue.receive(line);
          line += '\n';
          std::fwrite(line.data(), 1, line.size(), out);
        }
      });
  Queue::remove(name);
}
#endif

}  // namespace

int main(int argc, char** argv) {
  const bench::Options options{argc, argv};
  const bench::LogFile file;
  const Run run{file, options.number("count", 100'000), options.number("workers", 2)};
  const auto logger = options.text("logger", "interprocess");
  if (logger == "interprocess")
    interprocess(run);
  else if (logger == "spdlog_append")
    spdlog_append(run, true);
  else if (logger == "spdlog_buffered")
    spdlog_append(run, false);
#if defined(BENCH_BOOST_LOG)
  else if (logger == "boost_log_ipc")
    boost_log_ipc(run);
#endif
  else
    bench::fail("no logger " + logger);
}
