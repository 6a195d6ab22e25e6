#include "watch/metrics_file.hpp"

#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "kindred/error.hpp"
#include "kindred/internal/descriptor.hpp"
#include "kindred/internal/files.hpp"
#include "kindred/internal/service_thread.hpp"
#include "kindred/internal/this_process.hpp"

namespace kindred::internal {

MetricsFile::MetricsFile(std::string path, std::chrono::nanoseconds interval,
                         std::function<std::string()> text)
    : path_{std::move(path)}, interval_{interval}, text_{std::move(text)} {
  write();
  try {
    thread_ = std::thread{[this] { run(); }};
  } catch (const std::system_error& error) {
    throw SystemError{"pthread_create", error.code().value(), "starting the thread of the metrics file",
                      "Raise the limit on processes (ulimit -u)."};
  }
}

void MetricsFile::end() noexcept {
  {
    const std::scoped_lock lock{mutex_};
    stop_ = true;
    stop_changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void MetricsFile::run() noexcept {
  begin_service_thread("kindred-metric");
  for (bool last = false; !last;) {
    {
      std::unique_lock lock{mutex_};
      stop_changed_.wait_for(lock, interval_, [&] { return stop_; });
      last = stop_;
    }
    try {
      write();
    } catch (const std::exception&) {
      // A full disk, or the folder is gone: the old file stays, and the next try comes.
    }
  }
}

void MetricsFile::write() const {
  const std::string text = text_();
  // node_exporter reads *.prom: the unfinished file is none of them. The pid, for pools that share a path.
  const std::string unfinished = path_ + "." + std::to_string(process_id()) + ".unfinished";
  const auto give_up = [&](const char* call, int error) {
    static_cast<void>(remove_file(unfinished));
    throw SystemError{
        call, error, "writing the metrics file " + path_,
        "Set ExecutorOptions::metrics_file to a file in a folder that this process may write to."};
  };
  {
    const Descriptor file = open_to_append(unfinished, 0644);
    if (const int error = truncate_file(file.get(), 0); error != 0) give_up("ftruncate", error);
    for (std::string_view rest = text; !rest.empty();) {
      const auto wrote = write_some(file.get(), rest);
      if (wrote <= 0) give_up("write", static_cast<int>(-wrote));
      rest.remove_prefix(static_cast<std::size_t>(wrote));
    }
  }
  std::error_code error;
  std::filesystem::rename(unfinished, path_, error);
  if (error) give_up("rename", error.value());
}

}  // namespace kindred::internal
