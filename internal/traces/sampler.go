package traces

import (
	"strconv"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// samplers are those of the specification, made with a share.
var samplers = []struct {
	name string
	of   func(share float64) sdk.Sampler
}{
	{"always_on", func(float64) sdk.Sampler { return sdk.AlwaysSample() }},
	{"always_off", func(float64) sdk.Sampler { return sdk.NeverSample() }},
	{"traceidratio", sdk.TraceIDRatioBased},
	{"parentbased_always_on", func(float64) sdk.Sampler { return sdk.ParentBased(sdk.AlwaysSample()) }},
	{"parentbased_always_off", func(float64) sdk.Sampler { return sdk.ParentBased(sdk.NeverSample()) }},
	{"parentbased_traceidratio", func(share float64) sdk.Sampler { return sdk.ParentBased(sdk.TraceIDRatioBased(share)) }},
}

func samplerNames() (names []string) {
	for _, s := range samplers {
		names = append(names, s.name)
	}
	return names
}

// chosenSampler is what the environment says, which was checked.
func chosenSampler() sdk.Sampler {
	name, _ := lookup(sampler)
	share := 1.0
	if text, _ := lookup(argument); text != "" {
		if n, err := strconv.ParseFloat(text, 64); err == nil {
			share = n
		}
	}
	for _, s := range samplers {
		if s.name == name {
			return byMessage{s.of(share)}
		}
	}
	return byMessage{sdk.ParentBased(sdk.AlwaysSample())}
}

// byMessage lets a sampler decide as if a span were a part of the trace that it is linked to.
type byMessage struct{ sdk.Sampler }

// ShouldSample implements sdk.Sampler.
func (s byMessage) ShouldSample(p sdk.SamplingParameters) sdk.SamplingResult {
	if len(p.Links) > 0 {
		of := p.Links[0].SpanContext
		p.ParentContext = trace.ContextWithRemoteSpanContext(p.ParentContext, of)
		p.TraceID = of.TraceID()
	}
	result := s.Sampler.ShouldSample(p)
	result.Tracestate = trace.TraceState{} // the message's is of another trace
	return result
}
