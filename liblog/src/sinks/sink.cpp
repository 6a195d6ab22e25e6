#include "kindred/internal/sink.hpp"

#include "record/delivery.hpp"

namespace kindred::internal {

void Sink::deliver(Delivery& delivery) { write(delivery.whole()); }

}  // namespace kindred::internal
