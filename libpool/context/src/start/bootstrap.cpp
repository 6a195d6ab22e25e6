#include "kindred/internal/bootstrap.hpp"

#include <array>
#include <cstdlib>
#include <cstring>
#include <exception>

#include "../linux/child.hpp"
#include "kindred/error.hpp"
#include "kindred/internal/asymmetric_fence.hpp"
#include "kindred/internal/context_life.hpp"
#include "kindred/internal/exit_codes.hpp"
#include "kindred/internal/injection.hpp"
#include "kindred/internal/process.hpp"

namespace kindred::internal {
namespace {

void write_text(Encoder& out, std::string_view text) {
  out.write_value<std::uint64_t>(text.size());
  out.write(text.data(), text.size());
}
std::string read_text(Decoder& in) {
  const auto bytes = in.take(in.read_count(1));
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The bytes of a setup are written once per executor, into memory that grows as a vector does.
struct GrowingBuffer {
  std::vector<std::byte> bytes = std::vector<std::byte>(4096);
  static std::span<std::byte> grow(void* self, std::span<const std::byte> written, std::size_t more) {
    auto& buffer = static_cast<GrowingBuffer*>(self)->bytes;
    buffer.resize(2 * (written.size() + more));
    return buffer;
  }
};

void write_options(Encoder& out, const WorkerOptions& options) {
  out.write_value<std::uint64_t>(options.env.size());
  for (const auto& [name, value] : options.env) {
    write_text(out, name);
    out.write_value<std::uint8_t>(value ? 1 : 0);
    if (value) write_text(out, *value);
  }
  write_text(out, options.cwd);
  out.write_value(options.nice);
  out.write_value<std::uint64_t>(options.cpu_affinity.size());
  for (const unsigned cpu : options.cpu_affinity) out.write_value(cpu);
  out.write_value<std::uint64_t>(options.rlimits.size());
  for (const auto& [resource, value] : options.rlimits) {
    out.write_value(resource);
    out.write_value(value);
  }
  out.write_value<std::uint8_t>(options.capture_output ? 1 : 0);
  out.write_value<std::uint8_t>(options.load_libraries ? 1 : 0);
}

WorkerOptions read_options(Decoder& in) {
  WorkerOptions options;
  for (auto left = in.read_count(9); left > 0; --left) {
    auto name = read_text(in);
    auto& value = options.env[std::move(name)];
    if (in.read_value<std::uint8_t>() != 0) value = read_text(in);
  }
  options.cwd = read_text(in);
  options.nice = in.read_value<int>();
  for (auto left = in.read_count(4); left > 0; --left)
    options.cpu_affinity.push_back(in.read_value<unsigned>());
  for (auto left = in.read_count(12); left > 0; --left) {
    const int resource = in.read_value<int>();
    options.rlimits[resource] = in.read_value<std::uint64_t>();
  }
  options.capture_output = in.read_value<std::uint8_t>() != 0;
  options.load_libraries = in.read_value<std::uint8_t>() != 0;
  return options;
}

void report_failure(const MessageSocket& socket, std::string_view text) noexcept {
  std::array<std::byte, 4 + 4096> message{};
  const auto kind = WorkerMessage::bootstrap_failed;
  std::memcpy(message.data(), &kind, sizeof kind);
  const std::size_t length = text.size() < 4096 ? text.size() : 4096;
  std::memcpy(message.data() + 4, text.data(), length);
  try {
    socket.send(std::span{message}.first(4 + length));
  } catch (...) {  // the parent then sees only the exit code: there is no other way to tell it
  }
}

// Takes the next descriptor of the hello; they come in the order in which this is called.
class Taker {
 public:
  explicit Taker(std::vector<Descriptor>& all) : all_{&all} {}
  Descriptor next() {
    if (at_ >= all_->size())
      throw UsageError{
          "the parent sent too few descriptors: it is another version of kindred. Build the program anew."};
    return std::move((*all_)[at_++]);
  }

 private:
  std::vector<Descriptor>* all_;
  std::size_t at_ = 0;
};

int bootstrap_and_work(int socket_fd, bool& inherited) {
  // For as long as the process: static destructors may still log and crash, and both write into the segment.
  // Always a new one: under `fork`, a worker of a worker's pool has inherited that of its parent, whose
  // descriptors have the same numbers.
  static WorkerBootstrap* kept;
  kept = new WorkerBootstrap;
  WorkerBootstrap& boot = *kept;
  boot.socket = MessageSocket{Descriptor{socket_fd}};
  WorkerMain work = nullptr;
  try {
    auto message = boot.socket.receive({});
    KINDRED_INJECTION_POINT("worker.bootstrap.greeted");
    if (!message) return 0;  // the pool was closed before this worker came up
    if (message->bytes.size() != sizeof(Hello))
      throw UsageError{"the parent greeted a worker in another version's words. Build the program anew."};
    std::memcpy(&boot.hello, message->bytes.data(), sizeof(Hello));
    const Hello& hello = boot.hello;
    inherited = hello.context.start_method() == StartMethod::fork;
    if (hello.magic != Hello::magic_value || hello.role != Hello::Role::worker) {
      throw UsageError{"the parent greeted a worker in another version's words. Build the program anew."};
    }
    Taker descriptors{message->descriptors};
    boot.waiter_bell = SharedBell{descriptors.next()};
    boot.service_bell = SharedBell{descriptors.next()};
    boot.collector_bell = SharedBell{descriptors.next()};
    if (hello.captures_output != 0) {
      boot.captured_stdout = descriptors.next();
      const Descriptor output = descriptors.next();
      boot.captured_stderr = descriptors.next();
      const Descriptor error = descriptors.next();
      redirect(output.get(), 1);
      redirect(error.get(), 2);
      unbuffer_output();
    }
    boot.segment = Segment::adopt(descriptors.next(), hello.segment_bytes);
    boot.segment.close_descriptor();
    KINDRED_INJECTION_POINT("worker.bootstrap.mapped");
    {
      auto memory =
          SharedMemory::adopt(descriptors.next(), hello.setup_bytes, SharedMemory::Access::read_only);
      boot.setup = read_setup(memory.bytes().first(hello.setup_bytes));
    }
    if (hello.context.start_method() != StartMethod::fork) compare_builds(boot.setup.modules);
    for (std::size_t i = 0; i < boot.setup.modules.size(); ++i)
      boot.code.add(i, boot.setup.modules[i], boot.setup.options.load_libraries);
    apply_options(boot.setup.options, boot.setup.cwd, boot.setup.umask);
    serve_context(hello.context, hello.owner);
    register_light_side();
    work = reinterpret_cast<WorkerMain>(boot.code.resolve(hello.main));
  } catch (const std::exception& error) {
    report_failure(boot.socket, error.what());
    return exit_code::not_set_up;
  }
  KINDRED_INJECTION_POINT("worker.bootstrap.set_up");
  return work(boot);
}

}  // namespace

std::shared_ptr<SharedMemory> write_setup(const Setup& setup, std::uint64_t* bytes) {
  GrowingBuffer buffer;
  Encoder out{ContextId{}, buffer.bytes, GrowingBuffer::grow, &buffer};
  out.write_value<std::uint64_t>(setup.modules.size());
  for (const Module& module : setup.modules) {
    write_text(out, module.path);
    write_text(out, module.build_id);
  }
  write_options(out, setup.options);
  write_text(out, setup.cwd);
  out.write_value(setup.umask);
  out.write_value<std::uint64_t>(setup.pool_setup.size());
  out.write(setup.pool_setup.data(), setup.pool_setup.size());
  out.write_value<std::uint8_t>(setup.sandbox ? 1 : 0);
  if (setup.sandbox) write_sandbox_plan(out, *setup.sandbox);
  auto memory = std::make_shared<SharedMemory>(SharedMemory::create("kindred-setup", out.size()));
  std::memcpy(memory->bytes().data(), out.written().data(), out.size());
  memory->seal_writes();
  *bytes = out.size();
  return memory;
}

Setup read_setup(std::span<const std::byte> bytes) {
  Setup setup;
  Decoder in{ContextId{}, bytes};
  for (auto left = in.read_count(16); left > 0; --left) {
    Module module;
    module.path = read_text(in);
    module.build_id = read_text(in);
    setup.modules.push_back(std::move(module));
  }
  setup.options = read_options(in);
  setup.cwd = read_text(in);
  setup.umask = in.read_value<std::uint32_t>();
  const auto part = in.take(in.read_count(1));
  setup.pool_setup.assign(part.begin(), part.end());
  if (in.read_value<std::uint8_t>() != 0) setup.sandbox = read_sandbox_plan(in);
  return setup;
}

void serve_as_worker(int socket, int lifeline, std::uint32_t parent_pid) {
  // Signals are blocked since before the fork: what was pending for the parent's handlers is not for us.
  lead_own_session();
  reset_signals();
  ignore_interrupts(false);
  // A worker that was executed was started by the supervisor's thread, which lives as long as the pool. It
  // holds also where a task executes another program in the worker's place. (The others have the fork
  // server.)
  if (socket == worker_fd::socket) {
    close_places_at_exec();
    if (!die_with_starter(parent_pid)) exit_now(0);
  }
  if (socket != worker_fd::socket && !take_places(socket, lifeline)) exit_now(exit_code::not_set_up);
  KINDRED_INJECTION_POINT("worker.bootstrap.before_binding");
  if (!bind_to_lifeline(worker_fd::lifeline)) exit_now(0);  // the parent has died already
  KINDRED_INJECTION_POINT("worker.bootstrap.bound");
  name_process("kindred-worker");
  if (parent_pid == 0) exit_now(exit_code::refused);
  bool inherited = false;
  const int code = bootstrap_and_work(worker_fd::socket, inherited);
  KINDRED_INJECTION_POINT("worker.leave.before_exit");
  flush_output();
  // A worker that came by fork is a copy of the program in the middle of its run: its static destructors and
  // atexit handlers would act on what is the parent's. One that began as a new program ends as a program
  // does.
  if (inherited) exit_now(code);
  std::exit(code);
}

}  // namespace kindred::internal
