#include "kindred/internal/byte_stream.hpp"

#include "kindred/error.hpp"

namespace kindred::internal {

void refuse_attachments() {
  throw UsageError{
      "a call or a result has more than " + std::to_string(max_attachments) +
      " shared objects and arrays. Give it fewer: one SharedArray with all of the values, say, or several calls."};
}

}  // namespace kindred::internal
