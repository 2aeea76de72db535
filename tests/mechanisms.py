"""One test per mechanism in ComfyUI: what the oldest supported host runs beside the golden cases, the
server tier and a template for every node in the browser. The newest host runs everything."""

from __future__ import annotations

import functools
import json
from pathlib import Path

MARK = "both_hosts"

MECHANISMS = {
    "host/adapters": "host/test_onestep.py::test_patched_and_plain_vae_go_in_either_order",
    "host/areas": "host/test_branch.py::test_area_sees_its_part_of_the_picture",
    "host/boxed_layers": "host/test_tiled_vae.py::test_decoding_is_the_whole_vaes",
    "host/branch": "host/test_branch.py::test_one_call_equals_the_blocks_walked_by_hand",
    "host/call_state": "host/test_tiled_company.py::test_guidance_by_the_attention_of_one_call_is_refused_in_tiles_only",
    "host/checkpointing": "host/test_trainable.py::test_checkpointing_changes_no_number",
    "host/cfg_range": "host/test_cfg_range.py::test_a_cache_by_prompt_entry_meets_a_negative_that_joins_or_leaves",
    "host/control_encoder": "host/test_branch.py::test_hint_encoder_reads_its_own_layout",
    "host/collisions": "host/test_pack.py::test_ids_that_another_pack_has_too_are_logged_with_both_packs",
    "host/errors": "host/test_errors.py::test_a_node_inside_another_names_both",
    "host/exact_vae": "host/test_tiled_vae.py::test_decoding_is_the_whole_vaes",
    "host/expansion": "host/test_restore.py::test_inner_results_are_kept_and_the_outer_node_is_shown",
    "host/extra_blocks": "host/test_branch.py::test_interrupt_leaves_no_hook_and_no_features",
    "host/finetune": "host/test_finetune.py::test_a_pasd_learns_and_is_saved_and_restores_with_what_it_learned",
    "host/folders": "host/test_pasd.py::test_the_dropdown_offers_every_release_and_no_detector",
    "host/frames": "host/test_context_windows.py::test_every_frame_keeps_its_own_picture_and_mask_and_tags",
    "host/loading": "host/test_diffbir_control.py::test_files_with_code_or_damage_are_refused",
    "host/masks": "host/test_branch.py::test_a_mask_scales_residuals_and_blocks_at_every_resolution",
    "host/memory": "host/test_restorer.py::test_out_of_memory_halves_the_tile_and_says_so",
    "host/one_step": "host/test_onestep.py::test_every_sampler_and_scheduler_is_right_or_refused",
    "host/patching": "host/test_branch.py::test_clones_reruns_and_the_unpatched_model",
    "host/report": "host/test_tiled_vae.py::test_progress_and_interruption",
    "host/restore_node": "host/test_restore.py::test_the_node_gives_the_pixels_of_its_recipe",
    "host/sample_photo": "nodes/test_sample.py::test_the_host_finds_the_sample_under_its_name_once_the_pack_is_loaded",
    "host/sampling": "host/test_sampling.py::test_every_start_is_right_for_every_latent",
    "host/saving": "host/test_finetune.py::test_a_pasd_learns_and_is_saved_and_restores_with_what_it_learned",
    "host/schema": "nodes/test_schemas.py::test_every_node_explains_itself",
    "host/stochastic_depth": "host/test_trainable.py::test_a_dropped_branch_is_the_network_without_it",
    "host/text_window": "host/test_trainable.py::test_one_window_is_the_hosts_own_of_a_short_prompt",
    "host/tiled_conds": "host/test_tiled_restoration.py::test_boxes_are_cut_to_the_tile",
    "host/tiled_hints": "host/test_tiled_restoration.py::test_core_controlnets_see_their_tiles",
    "host/tiled_sampling": "host/test_tiled_restoration.py::test_one_tile_is_the_untiled_run_bit_for_bit",
    "host/trainable": "host/test_trainable.py::test_published_files_are_what_the_loaders_take",
    "host/trainable_base": "host/test_finetune.py::test_the_base_has_what_its_loras_make_of_it_and_stays_whole",
    "host/trainable_unet": "host/test_trainable.py::test_checkpointing_changes_no_number",
    "host/training_inputs": "host/test_finetune.py::test_a_pasd_learns_and_is_saved_and_restores_with_what_it_learned",
    "host/view": "host/test_branch.py::test_tiles_see_their_part_of_the_picture_in_any_order_of_nodes",
    "host/x0_guidance": "host/test_sampling.py::test_guidance_acts_only_in_its_part_of_the_run",
    "diffbir/attach": "host/test_diffbir_control.py::test_core_apply_with_a_vae_is_the_same_as_the_latent",
    "diffbir/guide": "host/test_sampling.py::test_the_first_guided_step_moves_by_the_formula",
    "diffbir/load": "host/test_diffbir_control.py::test_files_load_as_published",
    "diffbir/networks": "host/test_diffbir_control.py::test_half_precision_weights_stay_small_and_compute_close",
    "diffbir/sampler": "host/test_sampling.py::test_spaced_equals_the_hosts_ddpm_on_an_eps_model",
    "diffbir/trainable": "host/test_trainable.py::test_published_files_are_what_the_loaders_take",
    "faces/run": "host/test_faces.py::test_landmarks_come_back_in_the_pictures_own_pixels",
    "onestep/attach": "host/test_onestep.py::test_one_step_of_the_stock_sampler_is_the_methods",
    "onestep/networks": "host/test_onestep.py::test_one_call_of_two_rows_where_memory_allows",
    "pasd/attach": "host/test_pasd.py::test_one_call_equals_the_unet_written_out_by_hand",
    "pasd/load": "host/test_pasd.py::test_published_folders_load_as_they_are",
    "pasd/networks": "host/test_pasd.py::test_attention_override_reaches_the_added_attention",
    "pasd/run": "host/test_pasd.py::test_pyramid_shows_the_heads_at_three_sizes",
    "pasd/trainable": "host/test_trainable.py::test_published_files_are_what_the_loaders_take",
    "seesr/attach": "host/test_seesr.py::test_with_the_tagger_every_tile_has_its_own_embeddings",
    "seesr/load": "host/test_seesr_loader.py::test_every_form_of_the_files_gives_the_same",
    "seesr/networks": "host/test_seesr.py::test_one_call_equals_the_blocks_written_out",
    "seesr/trainable": "host/test_trainable.py::test_published_files_are_what_the_loaders_take",
    "stage1/run": "host/test_restorer.py::test_the_bundled_model_takes_any_picture",
    "stage1/trainable": "host/test_trainable.py::test_stage_1_and_dape_are_what_their_loaders_take",
    "styleid/attach": "host/test_styleid.py::test_block_of_sd2_equals_the_paper_written_by_hand",
    "styleid/run": "host/test_styleid.py::test_inverted_and_sampled_gives_the_picture_back",
    "tagger/load": "host/test_tagger.py::test_files_load_as_published",
    "tagger/run": "host/test_tagger.py::test_lora_strength_0_is_plain_ram_and_1_is_dape",
    "tagger/trainable": "host/test_trainable.py::test_stage_1_and_dape_are_what_their_loaders_take",
    "zeroshot/guide": "host/test_ddnm.py::test_every_prediction_and_the_result_have_the_references_means",
    "zeroshot/sampler": "host/test_zeroshot.py::test_one_repeat_is_the_inner_sampler_bit_for_bit",
    "nodes/__init__": "host/test_pack.py::test_loads_under_any_folder_name",
    "__init__": "host/test_pack.py::test_import_changes_nothing_in_the_host_and_loads_nothing_heavy",
}  # fmt: skip
"""File -> the test, below tests/, that would notice first if ComfyUI changed under it."""

WHOLE_FILES = (
    "golden/test_golden.py",
    "browser/test_compare.py",
    "browser/test_templates.py::test_the_quick_one",
    "browser/test_templates.py::test_notes",
    "browser/test_templates.py::test_apps",
    "browser/test_workflows.py",
    "matrix/test_matrix.py",
    "server/test_blueprints.py",
    "server/test_demo.py::test_without_comfyui",
    "server/test_folder_run.py::test_a_folder_goes",
    "server/test_folder_run.py::test_it_starts",
    "server/test_package.py",
    "server/test_server.py",
)
"""Run on both hosts as they are: files, or tests by the beginning of their name. The rest of the server
tier asks nothing of a host that differs between them."""


TEMPLATES = "browser/test_templates.py::test_it_opens_complete_and_readable"
"""Run there for the templates that together show every node."""


def on_both_hosts(nodeid: str) -> bool:
    """Whether a test, as pytest names it, runs on the oldest host too."""
    test, _, parameters = nodeid.removeprefix("tests/").partition("[")
    if test == TEMPLATES:
        return parameters.removesuffix("]") in templates_with_every_node()
    return test in MECHANISMS.values() or test.startswith(WHOLE_FILES)


@functools.cache
def templates_with_every_node() -> frozenset[str]:
    """Few templates in which each kind of node of all templates occurs."""
    kinds = {
        path.stem: {node["class_type"] for node in json.loads(path.read_text("utf-8")).values()}
        for path in sorted((Path(__file__).parents[1] / "workflows" / "api").glob("*.json"))
    }
    missing, chosen = set().union(*kinds.values()), set()
    while missing:
        most = max(kinds, key=lambda name: len(kinds[name] & missing))
        chosen.add(most)
        missing -= kinds[most]
    return frozenset(chosen)
