module catamaran.dev/cluster/tool

go 1.26.0
