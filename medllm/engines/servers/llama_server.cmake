# Builds llama-server together with the libraries of llama-cpp-python.
#
# CMake includes this file right after llama.cpp's own `project()`, by the variable
# CMAKE_PROJECT_llama.cpp_INCLUDE. What the targets below link to is defined later on.
set(LLAMA_USE_PREBUILT_UI OFF CACHE BOOL "its page would be downloaded" FORCE)
set(LLAMA_TOOLS_INSTALL ON CACHE BOOL "install what llama-server is made of" FORCE)
set(MTMD_VIDEO OFF CACHE BOOL "would start ffmpeg" FORCE)
set(LLAMA_VERSION_BASE 0)
set(LLAMA_VERSION_MAJOR 0)
set(CMAKE_INSTALL_RPATH "$ORIGIN/../lib;$ORIGIN")
find_package(Threads REQUIRED)
add_subdirectory(tools/mtmd)
add_subdirectory(tools/ui)
add_subdirectory(tools/server)
