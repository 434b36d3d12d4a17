// Package conformance runs the Gateway API's conformance suite against the
// cluster that KUBECONFIG names: `cargo xtask conformance` does so, and says how.
package conformance

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

func TestConformance(t *testing.T) {
	conformance.RunConformance(t)
}
