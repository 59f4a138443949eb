#!/bin/bash
# build.sh SOURCES PREFIX: builds Torch7 (CPU, LuaJIT) as an independent truth for numbers and files.
#
# SOURCES holds one folder OWNER+NAME a repository (docs/fixtures.md lists them): a work tree, or a folder with a git
# directory in it, whose newest commit is taken. About eight minutes on two cores. Afterwards PREFIX/th runs a script.
# Needs (Debian): luajit libluajit-5.1-dev libopenblas-dev cmake g++ libpng-dev libjpeg-dev
set -eu
sources=$(cd "$1" && pwd); mkdir -p "$2"; prefix=$(cd "$2" && pwd)
src=$prefix/src; build=$prefix/build; tree=$prefix/install; lua=$tree/share/lua/5.1; c=$tree/lib/lua/5.1
mkdir -p "$src" "$build" "$tree"/{bin,include,lib} "$lua" "$c"

take() { # OWNER+NAME → src/OWNER+NAME
  [ -d "$src/$1" ] && return
  from=$sources/$1; mkdir -p "$src/$1"
  for git in "$from" "$from/.git" "$from"/* "$from"/*/.git; do
    if [ -f "$git/HEAD" ]; then git --git-dir="$git" archive "$(git --git-dir="$git" rev-parse "${2:-HEAD}")" | tar x -C "$src/$1"; return; fi
  done
  cp -r "$from/." "$src/$1/"
}
for name in torch+{torch7,nn,cwrap,paths,sys,xlua,nngraph,graph,optim,image,tds,dok,argcheck,class} torchnet+torchnet nicholas-leonard+torchx Element-Research+{dpnn,rnn} lunarmodules+Penlight; do take $name; done
take Yonaba+Moses Moses-1.4.0-1  # rnn and dpnn need this version of moses.lua

cp /usr/include/luajit-2.1/* "$tree/include/"; ln -sf "$(command -v luajit)" "$tree/bin/luajit"
mkdir -p "$lua/cwrap"; cp "$src"/torch+cwrap/*.lua "$lua/cwrap/"; cp -r "$src/lunarmodules+Penlight/lua/pl" "$lua/"; cp "$src"/Yonaba+Moses/moses.lua "$lua/"
for p in torch+xlua:xlua torch+dok:dok torch+nngraph:nngraph torch+graph:graph torch+optim:optim nicholas-leonard+torchx:torchx Element-Research+dpnn:dpnn Element-Research+rnn:rnn torch+argcheck:argcheck torch+class:class torchnet+torchnet:torchnet; do
  mkdir -p "$lua/${p#*:}"; cp -r "$src/${p%:*}/." "$lua/${p#*:}/"
done
for p in dpnn rnn torchx; do cp -n "$lua/$p"/test/*.lua "$lua/$p/" 2>/dev/null || true; done

export LUA_PATH="$lua/?.lua;$lua/?/init.lua;;" LUA_CPATH="$c/?.so;;"
step() { # NAME SOURCE [options]
  name=$1 from=$2; shift 2; mkdir -p "$build/$name"
  (cd "$build/$name" && cmake "$from" -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_FLAGS=-fcommon -Wno-dev -DLUA="$tree/bin/luajit" -DLUALIB= -DLUA_BINDIR="$tree/bin" \
    -DLUA_INCDIR="$tree/include" -DLUA_LIBDIR="$tree/lib" -DLUADIR="$lua" -DLIBDIR="$c" -DCMAKE_INSTALL_PREFIX="$tree" -DCMAKE_PREFIX_PATH="$tree" "$@" \
    && make -j"$(nproc)" && make install) > "$build/$name.log" 2>&1 || { echo "failed: $name"; tail -30 "$build/$name.log"; exit 1; }
  # some install beside the tree's own folders
  [ -d "$tree/lua" ] && cp -r "$tree/lua/." "$lua/" && rm -rf "$tree/lua"
  for so in "$tree"/lib/lib{nn,sys,image,paths,tds,THNN}*.so "$tree"/lib/libsys.so; do [ -f "$so" ] && cp -n "$so" "$c/" || true; done
  echo "built $name"
}
step paths "$src/torch+paths"; step torch "$src/torch+torch7"; step sys "$src/torch+sys"; step nn "$src/torch+nn"
step tds "$src/torch+tds" -DLUA_CPATH="$c" -DLUA_PATH="$lua"; step image "$src/torch+image"

# packages of layers, where their sources are at hand
extra() { # OWNER+NAME PACKAGE: its Lua, and init.c if it has one
  [ -d "$sources/$1" ] || return 0
  take "$1"; mkdir -p "$lua/$2"; cp "$src/$1"/*.lua "$lua/$2/"; cp -n "$src/$1"/test/*.lua "$lua/$2/" 2>/dev/null || true
  if [ -f "$src/$1/init.c" ]; then (cd "$src/$1" && gcc -O2 -std=gnu99 -fPIC -shared -fcommon -I"$tree/include" -I"$tree/include/TH" -I"$tree/include/luaT" -I. -o "$c/lib$2.so" init.c -L"$tree/lib" -lTH -lluaT); fi
  echo "built $2"
}
extra szagoruyko+imagine-nn inn; extra clementfarabet+lua---nnx nnx; extra qassemoquab+stnbhwd stn

cat > "$prefix/th" <<EOF
#!/bin/bash
# th SCRIPT.lua [arguments]
export LUA_PATH="./?.lua;./?/init.lua;$lua/?.lua;$lua/?/init.lua;\${LUA_PATH:-};;" LUA_CPATH="./?.so;$c/?.so;$tree/lib/?.so;\${LUA_CPATH:-};;"
export LD_LIBRARY_PATH="$tree/lib:$c:\${LD_LIBRARY_PATH:-}" OMP_NUM_THREADS=\${OMP_NUM_THREADS:-1} OPENBLAS_NUM_THREADS=\${OPENBLAS_NUM_THREADS:-1}
exec luajit "\$@"
EOF
chmod +x "$prefix/th"
cat > "$build/test.lua" <<'EOF'
require 'nn'; require 'nngraph'; require 'rnn'; require 'dpnn'; require 'image'; require 'optim'
local m = nn.Sequential():add(nn.SpatialConvolution(3, 4, 3, 3)):add(nn.ReLU()):add(nn.View(-1)):add(nn.Linear(4*6*6, 2))
torch.save(arg[1], m); print(torch.load(arg[1]):forward(torch.ones(3, 8, 8)):size(1) == 2 and 'Torch7 runs' or 'wrong')
EOF
"$prefix/th" "$build/test.lua" "$build/test.t7"
