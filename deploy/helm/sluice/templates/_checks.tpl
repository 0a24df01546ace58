{{/* Refuses what would not work, in words. Takes root, name and service (merged with the defaults). */}}
{{- define "sluice.check" -}}
{{- $service := .service -}}
{{- $partitions := int (get .root.Values.kafka $service.partitions) -}}
{{- $scaling := $service.autoscaling -}}
{{- $most := int $service.replicas -}}
{{- $which := "replicas" -}}
{{- if ne $scaling.mode "none" -}}
{{- $most = int $scaling.maxReplicas -}}
{{- $which = "autoscaling.maxReplicas" -}}
{{- if gt (int $scaling.minReplicas) $most -}}
{{- fail (printf "services.%s.autoscaling: minReplicas is %d and maxReplicas %d" .name (int $scaling.minReplicas) $most) -}}
{{- end -}}
{{- end -}}
{{- if gt $most $partitions -}}
{{- fail (printf "services.%s.%s is %d, but kafka.%s is %d: a pod without a partition has no work. Raise the partitions first (Kafka never takes any away), or have fewer pods" .name $which $most $service.partitions $partitions) -}}
{{- end -}}
{{- $needed := add (int .root.Values.drainSeconds) (int $service.preStopSeconds) 10 | int -}}
{{- if lt (int $service.terminationGracePeriodSeconds) $needed -}}
{{- fail (printf "services.%s.terminationGracePeriodSeconds is %d, but stopping takes up to %d: preStopSeconds %d, drainSeconds %d, and 10 to hand back and close. Mail under way would be cut off and in doubt" .name (int $service.terminationGracePeriodSeconds) $needed (int $service.preStopSeconds) (int .root.Values.drainSeconds)) -}}
{{- end -}}
{{- if and $service.staticMembership (ne $service.kind "StatefulSet") -}}
{{- fail (printf "services.%s.staticMembership needs kind: StatefulSet: a Deployment's new pod has a new name, and the old one's partitions would wait for the session to time out" .name) -}}
{{- end -}}
{{- if and (eq $scaling.mode "keda") (eq .name "wheel") -}}
{{- fail "services.wheel.autoscaling.mode is keda, but lag of mail.wheel.* is mail that waits for its time, not work: use none or hpa" -}}
{{- end -}}
{{- end -}}
