// Package gatewayapi keeps the Gateway API's module required: its resource
// definitions are data, which `go mod tidy` doesn't see.
package gatewayapi

import _ "sigs.k8s.io/gateway-api/pkg/consts"
