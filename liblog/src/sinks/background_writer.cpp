#include "kindred/internal/background_writer.hpp"

#include <cerrno>
#include <exception>
#include <utility>

#include "kindred/internal/assert.hpp"
#include "kindred/internal/cpu.hpp"
#include "kindred/internal/files.hpp"
#include "kindred/internal/service_thread.hpp"

namespace kindred::internal {
namespace {

constexpr std::size_t kept_room = 4U * 1024 * 1024;  ///< memory of a giant text beyond this is given back

}  // namespace

int Appended::append(int fd, bool is_file, std::string_view text) noexcept {
  while (bytes < text.size()) {
    const auto written = write_some(fd, text.substr(bytes));
    if (written <= 0) return written == 0 ? EIO : static_cast<int>(-written);
    bytes += static_cast<std::size_t>(written);
    if (!is_file) continue;
    const std::uint64_t now_ends = file_position(fd);
    // Another program's bytes between two of our pieces: then what is begun does not stand in one piece.
    if (bytes > static_cast<std::size_t>(written) && now_ends != end + static_cast<std::uint64_t>(written))
      whole = false;
    end = now_ends;
  }
  return 0;
}

BackgroundWriter::~BackgroundWriter() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard hold{lock_};
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

bool BackgroundWriter::begin(int fd, TextBuffer& text) noexcept {
  KINDRED_ASSERT(idle());
  if (no_thread_) return false;
  if (!thread_.joinable()) {
    try {
      thread_ = std::thread{[this] { run(); }};
    } catch (const std::exception&) {  // no thread, or no memory
      no_thread_ = true;
      return false;
    }
  }
  {
    const std::lock_guard hold{lock_};
    std::swap(text_, text);
    appended_ = {};
    error_ = 0;
    fd_ = fd;
    owner_cpu_ = current_cpu();
    progress_ = Progress::waiting;
  }
  changed_.notify_all();
  begun_ = true;
  return true;
}

BackgroundWriter::Progress BackgroundWriter::progress() {
  const std::lock_guard hold{lock_};
  return progress_;
}

bool BackgroundWriter::write_here() {
  {
    const std::lock_guard hold{lock_};
    if (progress_ != Progress::waiting) return false;
    progress_ = Progress::writing;  // the thread leaves it alone
  }
  const int error = appended_.append(fd_, true, text_.view());
  const std::lock_guard hold{lock_};
  error_ = error;
  progress_ = Progress::done;
  return true;
}

int BackgroundWriter::finish(TextBuffer& text, Appended& appended) {
  KINDRED_ASSERT(!idle());
  KINDRED_ASSERT(text.empty());
  std::unique_lock hold{lock_};
  changed_.wait(hold, [this] { return progress_ == Progress::done; });
  begun_ = false;
  if (error_ == 0) {
    text_.clear();
    text_.shrink(kept_room);
    return 0;
  }
  std::swap(text_, text);
  appended = appended_;
  return error_;
}

/// The scheduler may have woken this thread on the processor of its owner, where it waits for the owner: then
/// nothing is gained.
void BackgroundWriter::leave_owner(int cpu) {
  if (current_cpu() != cpu) return;
  const auto now = std::chrono::steady_clock::now();
  if (now < next_move_) return;
  next_move_ = now + std::chrono::milliseconds{5};
  static_cast<void>(leave_cpu(cpu));
}

void BackgroundWriter::run() {
  begin_service_thread("kindred-write");
  std::unique_lock hold{lock_};
  for (;;) {
    changed_.wait(hold, [this] { return progress_ == Progress::waiting || stop_; });
    if (progress_ != Progress::waiting) return;
    progress_ = Progress::writing;
    const int owner_cpu = owner_cpu_;
    hold.unlock();
    leave_owner(owner_cpu);
    const int error = appended_.append(fd_, true, text_.view());
    hold.lock();
    error_ = error;
    progress_ = Progress::done;
    changed_.notify_all();
  }
}

}  // namespace kindred::internal
