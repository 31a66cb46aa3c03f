// Package kubernetes has manifests for Kubernetes, and holds them and the Helm chart beside it to the types of Kubernetes, to the relay's settings and to
// a relay that runs as they say. It is a module of its own, so that nothing else depends on Helm and Kubernetes.
package kubernetes
