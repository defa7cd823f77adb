{
  "targets": [
    {
      "target_name": "virtio_vhost_user",
      "sources": ["<!@(ls native/*.cc)"],
      "include_dirs": ["<!@(node -p \"require('node-addon-api').include_dir\")"],
      "defines": ["NAPI_VERSION=9", "NAPI_CPP_EXCEPTIONS", "_GNU_SOURCE", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
      "cflags_cc!": ["-fno-exceptions", "-fno-rtti"],
      "cflags_cc": ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-fexceptions", "-fvisibility=hidden"],
      # The SIGBUS handler must stay when the worker that loaded the addon ends.
      "ldflags": ["-Wl,-z,nodelete"],
    }
  ]
}
