module pdfjob.dev/devcluster/node

go 1.25.0
