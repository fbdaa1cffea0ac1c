// An operator in C++17 over TCP: g++ -std=c++17 -fno-exceptions -fno-rtti operator.cpp
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "wire.hpp"

static bool read_all(int socket, std::uint8_t* out, std::size_t size) {
  while (size != 0) {
    const ssize_t count = read(socket, out, size);
    if (count <= 0) return false;
    out += count;
    size -= static_cast<std::size_t>(count);
  }
  return true;
}

int main(int, char** arguments) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(std::atoi(arguments[2])));
  inet_pton(AF_INET, arguments[1], &address.sin_addr);
  const int connection = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(connection, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return 1;

  std::vector<std::uint8_t> message(4);
  const auto command = wire::to_bytes(wire::Command{3.5f, wire::Mode::DRIVE});
  message[0] = static_cast<std::uint8_t>(command.size());  // a length of four bytes, little-endian
  message.insert(message.end(), command.begin(), command.end());
  if (write(connection, message.data(), message.size()) < 0) return 1;

  for (;;) {
    std::uint8_t head[4];
    if (!read_all(connection, head, 4)) return 1;
    const std::uint32_t size = head[0] | head[1] << 8 | head[2] << 16 | std::uint32_t{head[3]} << 24;
    std::vector<std::uint8_t> data(size);
    if (!read_all(connection, data.data(), size)) return 1;
    wire::Event event;
    if (const wire::Error error = wire::from_bytes(data.data(), data.size(), event)) {
      std::fprintf(stderr, "%s at byte %zu\n", error.what(), error.offset);
      return 1;
    }
    if (const auto* alarm = std::get_if<wire::EventAlarm>(&event.value)) {
      std::printf("alarm %u: %s\n", alarm->code, alarm->text ? alarm->text->c_str() : "no words");
    } else if (const auto* pose = std::get_if<wire::EventPose>(&event.value)) {
      if (pose->mode != wire::Mode::DRIVE) continue;
      std::printf("%s drives, trail of %zu\n", pose->name.c_str(), pose->trail.size());
      return 0;
    }
  }
}
