// An operator in Dart: dart operator.dart ws://127.0.0.1:8765/
import 'dart:io';
import 'dart:typed_data';

import 'wire.dart';

Future<void> main(List<String> arguments) async {
  final socket = await WebSocket.connect(arguments[0]);
  socket.add(const Command(speed: 4.5, mode: Mode.DRIVE).toBin());
  await for (final data in socket) {
    if (data is! Uint8List) continue;
    switch (Event.fromBin(data)) {
      case EventAlarm(:final code, :final text):
        print('alarm $code: $text');
      case EventPose(:final name, mode: Mode.DRIVE, :final trail):
        print('$name drives, trail of ${trail.length}');
        await socket.close();
      case EventPose():
        break;
    }
  }
}
