{{- define "blobstore.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- printf "%s-operator" (.Release.Name | trunc 40 | trimSuffix "-") -}}
{{- else -}}
{{- printf "%s-%s-operator" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "blobstore.selectorLabels" -}}
app.kubernetes.io/name: blobstore-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "blobstore.labels" -}}
{{ include "blobstore.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: blobstore
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "blobstore.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "blobstore.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "blobstore.image" -}}
{{- printf "%s:%s" .image.repository (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}

{{- define "blobstore.webhookSecret" -}}
{{- default (printf "%s-webhook" (include "blobstore.fullname" .)) .Values.webhook.existingSecret -}}
{{- end -}}

{{/* The one source of alerts, with the excluded ones left out, the added labels put in and links made whole. */}}
{{- define "blobstore.alertGroups" -}}
{{- $rules := .Values.monitoring.rules -}}
{{- $groups := list -}}
{{- range $group := (.Files.Get "files/alerts.yaml" | fromYaml).groups -}}
{{- $kept := list -}}
{{- range $rule := $group.rules -}}
{{- if not (has $rule.alert $rules.exclude) -}}
{{- $annotations := $rule.annotations -}}
{{- if $rules.runbookBaseUrl -}}
{{- $url := printf "%s/%s.md" (trimSuffix "/" $rules.runbookBaseUrl) $rule.alert -}}
{{- $annotations = merge (dict "runbook_url" $url) $annotations -}}
{{- end -}}
{{- $labels := merge (dict) $rule.labels $rules.alertLabels -}}
{{- $kept = append $kept (merge (dict "annotations" $annotations "labels" $labels) $rule) -}}
{{- end -}}
{{- end -}}
{{- if $kept -}}
{{- $groups = append $groups (dict "name" $group.name "interval" $group.interval "rules" $kept) -}}
{{- end -}}
{{- end -}}
{{- dict "groups" $groups | toYaml -}}
{{- end -}}

{{/*
One group's rules in Grafana's form. A Prometheus rule fires on every series that its expression returns; in Grafana a
threshold below any number says the same. `$value` is the label set and value there, so the number is named.
*/}}
{{- define "blobstore.grafanaRules" -}}
{{- $datasource := .datasourceUid -}}
{{- $out := list -}}
{{- range $rule := .group.rules -}}
{{- $query := dict "refId" "A" "datasourceUid" $datasource
      "relativeTimeRange" (dict "from" 600 "to" 0)
      "model" (dict "refId" "A" "expr" $rule.expr "instant" true "range" false "intervalMs" 1000 "maxDataPoints" 43200) -}}
{{- $evaluator := dict "type" "gt" "params" (list -1e300) -}}
{{- $threshold := dict "refId" "B" "datasourceUid" "__expr__"
      "relativeTimeRange" (dict "from" 600 "to" 0)
      "model" (dict "refId" "B" "type" "threshold" "expression" "A"
        "datasource" (dict "type" "__expr__" "uid" "__expr__")
        "conditions" (list (dict "type" "query" "evaluator" $evaluator "operator" (dict "type" "and")
          "query" (dict "params" (list "A")) "reducer" (dict "type" "last" "params" list)))) -}}
{{- $annotations := dict -}}
{{- range $name, $text := $rule.annotations -}}
{{- $_ := set $annotations $name (regexReplaceAll "\\$value\\b" $text "$$values.A.Value") -}}
{{- end -}}
{{- $one := dict "uid" (printf "bs-%s" (sha1sum $rule.alert | trunc 20)) "title" $rule.alert
      "condition" "B" "data" (list $query $threshold) "for" (default "0s" $rule.for)
      "noDataState" "OK" "execErrState" "Error"
      "labels" $rule.labels "annotations" $annotations -}}
{{- if $rule.keep_firing_for -}}{{- $_ := set $one "keepFiringFor" $rule.keep_firing_for -}}{{- end -}}
{{- $out = append $out $one -}}
{{- end -}}
{{- dict "rules" $out | toYaml -}}
{{- end -}}
