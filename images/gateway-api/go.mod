// What a cluster's resource definitions for the Gateway API are taken from:
// go.sum vouches for them.
module atoll.dev/images/gateway-api

go 1.26.0

require sigs.k8s.io/gateway-api v1.6.2
