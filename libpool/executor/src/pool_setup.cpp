#include "pool_setup.hpp"

#include "kindred/error.hpp"
#include "nesting.hpp"

namespace kindred::internal {
namespace {

std::span<std::byte> grow(void* self, std::span<const std::byte> written, std::size_t more) {
  auto& bytes = *static_cast<std::vector<std::byte>*>(self);
  bytes.resize(2 * (written.size() + more));
  return bytes;
}

void write_call(Encoder& out, CodeBook& code, ContextId context, const Call& call, Attachments* attachments) {
  if (!call) {
    out.write_value(CodeReference{0});
    return;
  }
  std::vector<std::byte> room(256);
  Encoder arguments{context, room, grow, &room};
  call.model()->encode(arguments);
  if (attachments == nullptr && !arguments.attachments().empty()) {
    throw UsageError{
        "a shared object or array was given to a preload call: it belongs to workers, and the fork server is none. "
        "Pass it to the initializer."};
  }
  out.write_value(code.reference(call.model()->entry()));
  out.write_value(call.model()->function() == nullptr ? CodeReference{0}
                                                      : code.reference(call.model()->function()));
  out.write_value<std::uint64_t>(arguments.size());
  out.write(arguments.written().data(), arguments.size());
  out.write_value<std::uint64_t>(arguments.attachments().size());
  if (attachments != nullptr)
    attachments->insert(attachments->end(), arguments.attachments().begin(), arguments.attachments().end());
}

WrittenCall read_call(Decoder& in) {
  WrittenCall call;
  call.entry = in.read_value<CodeReference>();
  if (call.entry == 0) return call;
  call.function = in.read_value<CodeReference>();
  const auto bytes = in.take(in.read_count(1));
  call.arguments.assign(bytes.begin(), bytes.end());
  call.attachments = static_cast<std::size_t>(in.read_value<std::uint64_t>());
  return call;
}

unsigned depth_here = 0;

}  // namespace

unsigned nesting_depth() noexcept { return depth_here; }
void set_nesting_depth(unsigned depth) noexcept { depth_here = depth; }

std::vector<std::byte> write_pool_setup(CodeBook& code, ContextId context, const Call& initializer,
                                        const ExecutorOptions& options, Attachments& attachments) {
  std::vector<std::byte> room(1024);
  Encoder out{context, room, grow, &room};
  write_call(out, code, context, initializer, &attachments);
  write_call(out, code, context, options.finalizer, &attachments);
  out.write_value<std::uint64_t>(options.preload.size());
  for (const Call& call : options.preload) write_call(out, code, context, call, nullptr);
  out.write_value<std::uint32_t>(nesting_depth() + 1);
  out.write_value<std::uint64_t>(static_cast<std::uint64_t>(options.max_rss_per_worker.value()));
  out.write_value<std::uint8_t>(options.log.bridge_spdlog ? 1 : 0);
  room.resize(out.size());
  return room;
}

PoolSetup read_pool_setup(std::span<const std::byte> bytes) {
  Decoder in{ContextId{}, bytes};
  PoolSetup part;
  part.initializer = read_call(in);
  part.finalizer = read_call(in);
  for (auto left = in.read_count(8); left > 0; --left) part.preload.push_back(read_call(in));
  part.depth = in.read_value<std::uint32_t>();
  part.max_rss_bytes = in.read_value<std::uint64_t>();
  part.bridge_spdlog = in.read_value<std::uint8_t>() != 0;
  return part;
}

}  // namespace kindred::internal
