//go:build tools

// Package helm pins the Helm command line that devcluster builds.
package helm

import (
	_ "helm.sh/helm/v3/cmd/helm"
)
