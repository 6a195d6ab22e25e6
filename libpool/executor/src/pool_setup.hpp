#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kindred/executor_options.hpp"
#include "kindred/internal/byte_stream.hpp"
#include "kindred/internal/code_reference.hpp"

namespace kindred::internal {

/// A `Call` as it travels.
struct WrittenCall {
  CodeReference entry = 0;  ///< 0: none
  CodeReference function = 0;
  std::vector<std::byte> arguments;
  std::size_t attachments =
      0;  ///< how many shared memories come with it, in the order of initializer, finalizer
};

/// What an executor tells its workers and fork server of itself, beside the context's part.
struct PoolSetup {
  WrittenCall initializer;
  WrittenCall finalizer;
  std::vector<WrittenCall> preload;
  std::uint32_t depth = 0;
  std::uint64_t max_rss_bytes = 0;
  bool bridge_spdlog = true;
};

/// Errors: what encoding the calls' arguments throws (`UsageError` for a handle of another context).
[[nodiscard]] std::vector<std::byte> write_pool_setup(CodeBook& code, ContextId context,
                                                      const Call& initializer, const ExecutorOptions& options,
                                                      Attachments& attachments);
[[nodiscard]] PoolSetup read_pool_setup(std::span<const std::byte> bytes);

}  // namespace kindred::internal
