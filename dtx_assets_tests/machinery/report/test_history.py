"""What the page knows of runs that did not end well."""

import dagster as dg

from dtx_assets.machinery.dagster.run import check_states


def test_a_check_that_a_failed_run_did_not_get_to_is_not_running():
    """Dagster leaves it planned for ever; the page would say `running` where nothing runs."""

    @dg.asset
    def broken():
        raise ValueError

    @dg.asset(deps=[broken], check_specs=[dg.AssetCheckSpec("sound", asset="after")])
    def after():
        return dg.MaterializeResult()

    definitions = dg.Definitions([broken, after])
    with dg.instance_for_test() as instance:
        definitions.resolve_implicit_global_asset_job_def().execute_in_process(instance=instance, raise_on_error=False)
        [state] = check_states(instance, definitions.resolve_asset_graph().asset_check_keys)
    assert (state.name, state.state) == ("sound", "not finished")
